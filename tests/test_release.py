"""scripts/release stops at the first thing that a release may not have. Nothing is installed or built here."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
SOUND = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-11-28\n\n### Added\n\n- A line.\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of one commit, with the real script; check, test and try-wheel only say their name."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "release", tmp_path / "scripts")
    for name in ("check", "test", "try-wheel"):
        say(tmp_path / "scripts" / name, f'echo "{name} $*"')
    say(tmp_path / ".venv" / "bin" / "python", '[ "$1" = -c ] && exit 1; echo "python $*"')
    (tmp_path / ".gitignore").write_text(".venv/\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(SOUND)
    commit(tmp_path)
    return tmp_path


def say(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def commit(project: Path) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message", "A commit"]):
        subprocess.run(["git", *command], cwd=project, check=True)


def release(project: Path, *part: str) -> subprocess.CompletedProcess[str]:
    command = [str(project / "scripts" / "release"), *part]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_sound_commit_passes_every_step_in_turn(project: Path) -> None:
    finished = release(project)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == [
        "check ",
        "test ",
        "python -m pip wheel --quiet --no-deps --wheel-dir dist .",
        "try-wheel dist/mixer_serve-0.2.0-py3-none-any.whl",
        "mixer-serve 0.2.0 can be released: dist/mixer_serve-0.2.0-py3-none-any.whl",
    ]


def test_a_tree_with_changes_is_refused(project: Path) -> None:
    (project / "left.txt").write_text("left")
    finished = release(project)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "expected a clean one" in finished.stderr


@pytest.mark.parametrize("step", ["check", "test", "try-wheel"])
def test_a_step_that_fails_is_the_last(project: Path, step: str) -> None:
    say(project / "scripts" / step, "exit 3")
    commit(project)
    finished = release(project)
    assert finished.returncode == 3
    assert "can be released" not in finished.stdout


@pytest.mark.parametrize(
    ("changelog", "reason"),
    [
        (SOUND.replace("0.2.0", "0.1.9"), "ends at '0.1.9'; expected 0.2.0"),
        (SOUND.replace(" - 2026-11-28", ""), "ends at ''; expected 0.2.0"),
        (SOUND.replace("## [0.2.0]", "### Added\n\n- New.\n\n## [0.2.0]"), "has lines; expected none"),
    ],
)
def test_versions_that_do_not_agree_are_refused(project: Path, changelog: str, reason: str) -> None:
    (project / "CHANGELOG.md").write_text(changelog)
    finished = release(project, "versions")
    assert finished.returncode == 1
    assert reason in finished.stderr


def test_the_newest_version_of_the_changelog_is_that_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    dated = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert dated[0] == version


def test_hooks_before_a_commit_are_the_steps_of_the_check_and_download_nothing() -> None:
    page = (ROOT / ".pre-commit-config.yaml").read_text()
    hooks = [entry.split()[0] for entry in re.findall(r"entry: (.+)", page)]
    steps = re.findall(r"^(\.venv/bin/\S+)", (ROOT / "scripts" / "check").read_text(), re.MULTILINE)
    assert hooks == steps
    assert re.findall(r"repo: (\S+)", page) == ["local"]
    assert set(re.findall(r"language: (\S+)", page)) == {"system"}
