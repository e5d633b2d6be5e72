"""One virtual environment a peer, with exactly the versions that are written down. Knows nothing of servers."""

import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".venv-bench"

_NAMED = ("fastapi", "litserve", "bentoml", "ray", "mosec", "uvicorn", "onnxruntime", "numpy", "pillow")


class NotInstalled(Exception):
    """A peer's environment cannot be made; the message says why, in one line."""


def constraints(peer: str) -> Path:
    """Every version of a peer's environment, as pip freeze gives them."""
    return ROOT / "benchmarks" / f"constraints-{peer}.txt"


def call(*command: str) -> None:
    """Run a program. Raises NotInstalled with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(_reason(done.stderr.splitlines()) or f"{' '.join(command)} ended with {done.returncode}.")


def prepare(peer: str, folder: Path = FOLDER, call: Callable[..., None] = call) -> Path:
    """The folder of a peer's programs; it is installed where it is not, or not as written down. Raises NotInstalled."""
    home = folder / peer
    stamp, state = home / ".installed", f"{zlib.crc32(constraints(peer).read_bytes()):08x} {sys.version}"
    if not stamp.is_file() or stamp.read_text() != state:
        print(f"installing {peer} into {home}", file=sys.stderr)
        call(sys.executable, "-m", "venv", str(home))
        pip = (str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        call(*pip, "--no-deps", "--requirement", str(constraints(peer)))
        stamp.write_text(state)
    return home / "bin"


def versions(programs: Path) -> dict[str, str]:
    """What is really installed beside `programs`, of the packages that matter."""
    folders = [str(folder) for folder in programs.parent.glob("lib/python*/site-packages")]
    found = {one.metadata["Name"].lower(): one.version for one in Distribution.discover(path=folders)}
    return {name: found[name] for name in _NAMED if name in found}


def _reason(lines: Sequence[str]) -> str:
    """What pip calls an error, else the last it said."""
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or [line for line in lines if line.strip()] or [""])[-1].strip()
