"""The folder of kept pictures: names, modes, limits, age, corrections, and disks that are full."""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.collection.folder import Folder, FolderLimits, write_file
from app.collection.record import Record

NOON = 1_764_417_600.0  # 2025-11-29, 12:00 UTC
DAY_S = 86_400.0
LIMITS = FolderLimits(max_images=100, max_bytes=1 << 20, max_days=7)


def folder_in(path: Path, limits: FolderLimits = LIMITS, now: float = NOON) -> Folder:
    folder = Folder(path / "kept", limits, clock=lambda: now)
    folder.make()
    return folder


def record(folder: Folder, request_id: str = "abc", index: int = 0, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "time": folder.now(),
        "request_id": request_id,
        "index": index,
        "model": {"name": "colours", "version": "7", "precision": "fp32"},
        "predictions": [{"label": "red", "index": 0, "probability": 0.9}],
        "uncertain": None,
        "energy": 10.0,
        "chosen_by": ["share"],
        "picture": f"{request_id}-{index}.png",
    }
    return Record.model_validate(fields | changes)


def names(folder: Folder) -> list[str]:
    return sorted(path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file())


def test_a_picture_and_its_answer_lie_in_a_folder_of_the_day(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    assert folder.keep(record(folder), b"picture") == "kept"
    assert names(folder) == [".usage", "2025-11-29/abc-0.json", "2025-11-29/abc-0.png"]
    answer = json.loads((folder.path / "2025-11-29" / "abc-0.json").read_text())
    assert answer == record(folder).model_dump(mode="json")
    assert answer["time"] == "2025-11-29T12:00:00.000Z"
    assert (folder.path / "2025-11-29" / "abc-0.png").read_bytes() == b"picture"


def test_only_its_owner_may_look(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")
    folder.correct("abc", 0, "blue")
    for path in [folder.path, *folder.path.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize(
    "request_id", [".", "..", "...", ".hidden", "a-1", "-", "x" * 64, "a.json", ".usage", "a.part"]
)
def test_whatever_a_client_calls_its_request_stays_in_the_folder_of_the_day(tmp_path: Path, request_id: str) -> None:
    folder = folder_in(tmp_path)
    assert folder.keep(record(folder, request_id), b"picture") == "kept"
    folder.correct(request_id, 0, "blue")
    assert {path.parent for path in folder.path.rglob("*-0.*")} == {folder.path / "2025-11-29"}
    assert len(names(folder)) == 4
    (kept,) = folder.pictures()
    assert (kept.record.request_id, kept.label) == (request_id, "blue")


def test_names_of_different_pictures_differ(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    for request_id, index in (("a", 1), ("a-1", 0), ("a", 0), ("a-0.label", 0)):
        assert folder.keep(record(folder, request_id, index), b"picture") == "kept"
    assert sorted((kept.record.request_id, kept.record.index) for kept in folder.pictures()) == [
        ("a", 0), ("a", 1), ("a-0.label", 0), ("a-1", 0),
    ]  # fmt: skip


def test_a_request_id_that_comes_again_keeps_its_first_picture(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"first")
    assert folder.keep(record(folder), b"second") == "repeated"
    (kept,) = folder.pictures()
    assert kept.picture.read_bytes() == b"first"


def test_two_processes_share_the_limits_of_the_whole_folder(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_images=3)
    one, other = folder_in(tmp_path, limits), folder_in(tmp_path, limits)
    outcomes = [writer.keep(record(writer, str(n)), b"picture") for n, writer in enumerate((one, other, one, other))]
    assert outcomes == ["kept", "kept", "kept", "dropped_limit"]


def test_bytes_have_a_limit_too(tmp_path: Path) -> None:
    folder = folder_in(tmp_path, replace(LIMITS, max_bytes=2000))
    assert folder.keep(record(folder, "a"), bytes(1000)) == "kept"
    assert folder.keep(record(folder, "b"), bytes(1000)) == "dropped_limit"
    assert folder.keep(record(folder, "c"), bytes(100)) == "kept"


def test_what_was_there_before_counts(tmp_path: Path) -> None:
    folder_in(tmp_path).keep(record(folder_in(tmp_path)), b"picture")
    (tmp_path / "kept" / ".usage").unlink()
    folder = folder_in(tmp_path, replace(LIMITS, max_images=1))
    assert folder.keep(record(folder, "b"), b"picture") == "dropped_limit"


def test_what_somebody_deletes_makes_room_within_a_minute(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_images=1)
    folder = folder_in(tmp_path, limits)
    folder.keep(record(folder), b"picture")
    (folder.path / "2025-11-29" / "abc-0.json").unlink()
    assert folder.keep(record(folder, "b"), b"picture") == "dropped_limit"
    later = folder_in(tmp_path, limits, NOON + 61)
    assert later.keep(record(later, "b"), b"picture") == "kept"


def test_pictures_are_deleted_when_they_are_too_old_and_other_files_are_not(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")
    folder.correct("abc", 0, "blue")
    (folder.path / "notes").mkdir()
    (folder.path / "notes" / "mine.txt").write_text("mine")
    folder_in(tmp_path, now=NOON + 7 * DAY_S).tidy()
    assert len(names(folder)) == 5
    assert folder_in(tmp_path, now=NOON + 8 * DAY_S).tidy().images == 0
    assert names(folder) == [".usage", "notes/mine.txt"]
    assert not (folder.path / "2025-11-29").exists()


def test_without_a_limit_of_days_nothing_is_deleted(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")
    assert folder_in(tmp_path, replace(LIMITS, max_days=0), NOON + 9999 * DAY_S).tidy().images == 1


def test_a_correction_lies_beside_the_picture_and_the_last_one_holds(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")
    first, second = folder.correct("abc", 0, "blue"), folder.correct("abc", 0, "green")
    assert first is not None
    assert second is not None
    assert (first.record.predictions[0].label, first.is_first, second.is_first) == ("red", True, False)
    assert json.loads((folder.path / "2025-11-29" / "abc-0.label.json").read_text())["label"] == "green"
    assert [kept.label for kept in folder.pictures()] == ["green"]


def test_a_correction_goes_to_the_newest_of_pictures_with_one_id(tmp_path: Path) -> None:
    for now in (NOON, NOON + DAY_S):
        folder = folder_in(tmp_path, now=now)
        folder.keep(record(folder), b"picture")
    folder.correct("abc", 0, "blue")
    assert [kept.label for kept in folder.pictures()] == [None, "blue"]


def test_what_is_not_kept_cannot_be_corrected(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    assert folder.correct("abc", 0, "blue") is None
    folder.keep(record(folder), b"picture")
    assert folder.correct("abc", 1, "blue") is None
    assert names(folder) == [".usage", "2025-11-29/abc-0.json", "2025-11-29/abc-0.png"]


def test_a_broken_answer_is_passed_over(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder, "a"), b"picture")
    folder.keep(record(folder, "b"), b"picture")
    (folder.path / "2025-11-29" / "a-0.json").write_text("{")
    assert [kept.record.request_id for kept in folder.pictures()] == ["b"]


def full_after(files: int) -> Callable[[Path, bytes], None]:
    """A disk that has room for so many files."""
    written: list[Path] = []

    def write(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) > files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_file(path, content)

    return write


@pytest.mark.parametrize("files", [0, 1])
def test_a_full_disk_leaves_no_half_of_a_picture(tmp_path: Path, files: int) -> None:
    folder = replace(folder_in(tmp_path), write=full_after(files))
    with pytest.raises(OSError, match="No space left"):
        folder.keep(record(folder), b"picture")
    assert names(folder) == [".usage"]
    assert folder_in(tmp_path).keep(record(folder), b"picture") == "kept"


def test_a_file_that_cannot_be_finished_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()  # which no file can replace
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "a", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_that_lies_where_a_file_is_to_be_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.part").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        write_file(tmp_path / "a", b"content")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_cannot_be_the_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(FileExistsError):
        Folder(tmp_path / "kept", LIMITS).make()


def test_files_of_others_in_the_folder_of_a_day_stay(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")
    folder.correct("abc", 0, "blue")
    day = folder.path / "2025-11-29"
    theirs = {"IMG_1.jpg", "diary.txt", "abc-0.jpg.old", "0.json", "abc.label.json"}
    for name in theirs | {"half-0.jpg.part", "alone-3.webp"}:
        (day / name).write_bytes(b"content")
    folder_in(tmp_path, now=NOON + 99 * DAY_S).tidy()
    assert {path.name for path in day.iterdir()} == theirs


def test_any_number_of_days_is_a_limit(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")
    for now in (0, NOON):
        assert folder_in(tmp_path, replace(LIMITS, max_days=1 << 40), now).tidy().images == 1


def test_a_day_that_somebody_deletes_meanwhile_costs_nothing(tmp_path: Path) -> None:
    class Vanishing(Folder):
        def _days(self) -> Iterator[Path]:
            yield from (self.path / "2001-01-01", self.path / "2030-01-01", *super()._days())

    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")
    assert Vanishing(folder.path, LIMITS, lambda: NOON).tidy().images == 1


def test_a_label_is_written_while_no_other_process_writes(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.keep(record(folder), b"picture")

    def write(path: Path, content: bytes) -> None:
        with (folder.path / ".usage").open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_file(path, content)

    corrected = replace(folder, write=write).correct("abc", 0, "blue")
    assert corrected is not None
    assert corrected.is_first
