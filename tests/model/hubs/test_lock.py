"""A lock on a file: one at a time, also where the file is moved away meanwhile, and gone with its process."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from model.hubs.lock import alone_with

ROOT = Path(__file__).parents[3]


def test_a_second_one_is_told_that_it_waits_and_comes_after(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        with alone_with(tmp_path / "lock", waits.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with alone_with(tmp_path / "lock"):
        thread.start()
        assert waits.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_a_file_that_is_moved_away_meanwhile_is_made_anew(tmp_path: Path) -> None:
    waits, held = threading.Event(), threading.Event()

    def second() -> None:
        with alone_with(tmp_path / "lock", waits.set):
            held.set()

    thread = threading.Thread(target=second)
    with alone_with(tmp_path / "lock"):
        thread.start()
        assert waits.wait(30)
        (tmp_path / "lock").rename(tmp_path / "else")
    thread.join(30)
    assert held.is_set()
    assert (tmp_path / "lock").exists()


@pytest.mark.process
def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from model.hubs.lock import alone_with\n"
        f"with alone_with(Path({str(tmp_path / 'lock')!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9

    def must_not_wait() -> None:
        raise AssertionError("the lock is held by nobody")

    with alone_with(tmp_path / "lock", must_not_wait):
        pass
