import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from model.network.provenance import _revision, versions


def _git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "--quiet", "--message", "One")
    return tmp_path


@pytest.mark.process
def test_the_versions_are_of_what_computes() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert (found["torch"], found["numpy"]) == (torch.__version__, np.__version__)
    assert {"mixer-serve", "pillow", "kornia"} <= set(found)
    assert all(found.values())


@pytest.mark.process
def test_a_revision_is_the_whole_name_of_the_commit(repository: Path) -> None:
    assert _revision(repository) == _git(repository, "rev-parse", "HEAD")


@pytest.mark.process
def test_a_tag_does_not_hide_the_commit(repository: Path) -> None:
    _git(repository, "tag", "--annotate", "v1", "--message", "One")
    assert _revision(repository) == _git(repository, "rev-parse", "HEAD")


@pytest.mark.process
def test_files_that_differ_from_the_commit_are_told(repository: Path) -> None:
    (repository / "file").write_text("two")
    assert _revision(repository) == _git(repository, "rev-parse", "HEAD") + "-dirty"


def test_outside_a_repository_there_is_no_revision(tmp_path: Path) -> None:
    assert _revision(tmp_path) is None


@pytest.mark.process
def test_inside_somebody_elses_repository_there_is_no_revision_either(repository: Path) -> None:
    (repository / "site-packages").mkdir()
    assert _revision(repository / "site-packages") is None


@pytest.mark.process
def test_a_repository_without_a_commit_has_no_revision(tmp_path: Path) -> None:
    _git(tmp_path, "init", "--quiet")
    assert _revision(tmp_path) is None
