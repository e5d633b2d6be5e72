"""The thread behind answers: in order, bounded, and alive whatever its work does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.collection.writer import Writer

PATIENCE_S = 30.0


def nothing() -> None:
    pass


@contextmanager
def held_up(most_pieces: int = 3, most_bytes: int = 100) -> Iterator[tuple[Writer, threading.Event]]:
    """A writer that is busy until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go.wait(PATIENCE_S)

    writer = Writer(most_pieces, most_bytes, nothing, PATIENCE_S)
    writer.put(wait, 10)
    assert begun.wait(PATIENCE_S)
    yield writer, go
    go.set()
    writer.close(PATIENCE_S)


def test_work_is_done_in_order() -> None:
    done: list[int] = []
    with held_up() as (writer, _):
        for number in range(2):
            writer.put(lambda number=number: done.append(number), 0)  # type: ignore[misc]
        assert done == []
    assert done == [0, 1]


def test_what_waits_and_what_is_under_way_take_room() -> None:
    with held_up(most_pieces=2, most_bytes=100) as (writer, _):
        assert writer.has_room(90)
        assert not writer.has_room(91)
        writer.put(nothing, 5)
        assert not writer.has_room(0)


def test_room_comes_back_with_what_is_done() -> None:
    done = threading.Event()
    with held_up(most_pieces=3, most_bytes=20) as (writer, go):
        writer.put(nothing, 10)
        assert not writer.has_room(1)
        go.set()
        writer.put(done.set, 0)
        assert done.wait(PATIENCE_S)
        assert writer.has_room(20)


def test_work_that_fails_is_logged_once_a_minute_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail() -> None:
        raise OSError("No space left on device")

    writer = Writer(10, 100, nothing, PATIENCE_S)
    for work in (fail, fail, done.set):
        writer.put(work, 1)
    writer.close(PATIENCE_S)
    assert done.is_set()
    assert writer.has_room(100)
    assert [line.levelname for line in caplog.records] == ["ERROR"]


def test_it_looks_after_the_folder_at_the_beginning_and_when_there_is_nothing_to_do() -> None:
    twice = threading.Semaphore(0)
    writer = Writer(10, 100, twice.release, idle_s=0.001)
    assert twice.acquire(timeout=PATIENCE_S)
    assert twice.acquire(timeout=PATIENCE_S)
    writer.close(PATIENCE_S)


def test_its_end_does_not_wait_for_work_that_never_ends() -> None:
    with held_up() as (writer, _):
        began = time.monotonic()
        writer.close(0.001)
        assert time.monotonic() - began < PATIENCE_S  # and the work goes on
