"""A private folder goes with its context, and those of killed processes with the next one's."""

import os
from pathlib import Path

import pytest

from app.system.private_folder import private_folder

LONG_AGO = 1_000_000_000


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def old(folder: Path) -> Path:
    os.utime(folder, (LONG_AGO, LONG_AGO))
    return folder


def test_it_is_this_users_alone_and_goes_at_the_end():
    with private_folder("mine-") as folder:
        (folder / "file").write_text("")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_what_a_killed_process_has_left_is_removed(temporary: Path):
    left = temporary / "mine-left"
    left.mkdir()
    (left / "file").write_text("")
    old(left)
    with private_folder("mine-"):
        assert not left.exists()


def test_what_is_in_use_is_not_removed_however_old():
    with private_folder("mine-") as folder:
        old(folder)
        with private_folder("mine-"):
            assert folder.exists()


def test_what_was_made_just_now_may_not_be_locked_yet_and_stays(temporary: Path):
    new = temporary / "mine-new"
    new.mkdir()
    with private_folder("mine-"):
        assert new.exists()


def test_other_names_and_links_stay(temporary: Path):
    other = temporary / "other"
    other.mkdir()
    (other / "file").write_text("")
    (temporary / "mine-link").symlink_to(old(other))
    os.utime(temporary / "mine-link", (LONG_AGO, LONG_AGO), follow_symlinks=False)
    with private_folder("mine-"):
        assert (other / "file").exists()
