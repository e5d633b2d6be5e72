"""What a folder holds is counted once, by whoever has the lock, and again when the count is old."""

from pathlib import Path

import pytest

from app.collection.usage import RECOUNT_S, Usage, locked


def never() -> Usage:
    raise AssertionError("counted")


def test_the_first_counts_and_the_next_goes_on_from_there(tmp_path: Path) -> None:
    with locked(tmp_path, 1000.0, lambda: Usage(3, 70, 1000.0)) as usage:
        usage.images += 1
    with locked(tmp_path, 1000.0 + RECOUNT_S - 1, never) as usage:
        assert usage == Usage(4, 70, 1000.0)


@pytest.mark.parametrize("later_s", [RECOUNT_S, -1.0])
def test_an_old_count_and_one_from_the_future_are_made_anew(tmp_path: Path, later_s: float) -> None:
    with locked(tmp_path, 1000.0, lambda: Usage(3, 70, 1000.0)):
        pass
    with locked(tmp_path, 1000.0 + later_s, lambda: Usage(2, 50, 1000.0 + later_s)) as usage:
        assert usage.images == 2


def test_what_changed_before_an_error_is_not_forgotten(tmp_path: Path) -> None:
    def fail() -> None:
        with locked(tmp_path, 1000.0, lambda: Usage(0, 0, 1000.0)) as usage:
            usage.images += 1
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    with locked(tmp_path, 1000.0, never) as usage:
        assert usage.images == 1


def test_a_file_that_was_cut_off_is_counted_anew(tmp_path: Path) -> None:
    (tmp_path / ".usage").write_bytes(b"123")
    with locked(tmp_path, 1000.0, lambda: Usage(7, 7, 1000.0)) as usage:
        assert usage.images == 7


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    with locked(tmp_path, 1000.0, lambda: Usage(0, 0, 1000.0)):
        assert (tmp_path / ".usage").stat().st_mode & 0o777 == 0o600
