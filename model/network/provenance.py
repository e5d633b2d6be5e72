"""The software of a training run: versions of packages, and the project's own revision. Knows nothing of the run."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("mixer-serve", "torch", "numpy", "pillow", "kornia")
_PROJECT = Path(__file__).resolve().parents[2]


def versions() -> dict[str, str]:
    """Of Python, the packages whose code decides a run's outcome, and git's revision where there is one."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    revision = _revision(_PROJECT)
    return found if revision is None else {**found, "git": revision}


def _revision(folder: Path) -> str | None:
    """The commit, with -dirty appended where files differ from it; None outside a repository or without git."""
    if not (folder / ".git").exists():
        return None
    command = ("git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603 -- no input
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
