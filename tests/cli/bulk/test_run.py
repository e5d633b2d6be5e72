"""Entries through a labeler into rows: order, failures that are too many, signals, what is flushed."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Iterator, Mapping

import pytest

from cli.bulk.entries import Entry
from cli.bulk.formats import Row
from cli.bulk.outcomes import Failure, Labelled, Outcome
from cli.bulk.output import Output
from cli.bulk.progress import Lines
from cli.bulk.run import PrintSink, ShardSink, Tally, exceeds, run
from cli.terminal import console

FAILED = Failure("bad_picture", "none")


class FakeLabeler:
    """Fails what is named bad. `waits_at`: sets `waiting` before that entry, and never goes on."""

    model: Mapping[str, str] = {"name": "fake"}

    def __init__(self, waits_at: int | None = None) -> None:
        self._waits_at = waits_at
        self.waiting = asyncio.Event()
        self.is_closed = False

    async def outcomes(self, entries: Iterator[Entry]) -> AsyncGenerator[tuple[str, Outcome]]:
        try:
            for at, entry in enumerate(entries):
                if at == self._waits_at:
                    self.waiting.set()
                    await asyncio.Event().wait()
                yield entry.name, FAILED if entry.name.startswith("bad") else Labelled([])
        finally:
            self.is_closed = True


class FakeSink:
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.flushed = 0

    async def add(self, row: Row) -> None:
        self.rows.append(row)

    async def flush(self) -> None:
        self.flushed += 1


def entries(*names: str) -> Iterator[Entry]:
    return iter([Entry(name, b"") for name in names])


def silent(done: int, failures: int) -> None:
    del done, failures


async def ran(names: Iterator[Entry], tally: Tally, rate: float | None, labeler: FakeLabeler | None = None) -> FakeSink:
    sink = FakeSink()
    await run(names, labeler or FakeLabeler(), sink, tally, max_failure_rate=rate, progress=silent)
    return sink


async def test_every_entry_is_a_row_in_order_and_failures_are_counted() -> None:
    tally = Tally()
    sink = await ran(entries("a", "bad", "c"), tally, None)
    assert [name for name, _ in sink.rows] == ["a", "bad", "c"]
    assert (tally.count, tally.failures, tally.too_many, sink.flushed) == (3, 1, False, 1)


async def test_it_stops_where_more_fail_than_may_once_there_are_enough_to_tell() -> None:
    names = ["bad" if at % 10 == 0 else "good" for at in range(1000)]
    tally, labeler = Tally(), FakeLabeler()
    sink = await ran(entries(*names), tally, 0.05, labeler)
    assert tally.too_many
    assert (tally.count, tally.failures, len(sink.rows), sink.flushed) == (100, 10, 100, 1)
    assert labeler.is_closed


async def test_it_goes_on_where_as_many_fail_as_may() -> None:
    names = ["bad" if at % 10 == 9 else "good" for at in range(1000)]
    tally = Tally()
    await ran(entries(*names), tally, 0.1)
    assert (tally.count, tally.too_many) == (1000, False)


async def test_what_failed_in_earlier_runs_counts() -> None:
    tally = Tally(count=150, failures=1)
    await ran(entries("bad", "good"), tally, 0.01)
    assert tally.too_many
    assert tally.count == 151


def test_below_the_least_number_the_rate_tells_in_the_end() -> None:
    assert exceeds(Tally(10, 1), 0.05)
    assert not exceeds(Tally(20, 1), 0.05)
    assert not exceeds(Tally(10, 10), None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stop_signal_ends_it_with_what_is_done_flushed(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    labeler, tally = FakeLabeler(waits_at=2), Tally()
    running = asyncio.create_task(ran(entries("a", "b", "c"), tally, None, labeler))
    await labeler.waiting.wait()
    os.kill(os.getpid(), number)
    sink = await running
    assert [name for name, _ in sink.rows] == ["a", "b"]
    assert (tally.stopped_by, sink.flushed, labeler.is_closed) == (number, 1, True)
    assert signal.getsignal(signal.SIGTERM) == before


async def test_what_is_done_is_flushed_where_a_source_fails() -> None:
    def failing() -> Iterator[Entry]:
        yield Entry("a", b"")
        raise OSError("gone")

    sink = FakeSink()
    with pytest.raises(OSError, match="gone"):
        await run(failing(), FakeLabeler(), sink, Tally(), max_failure_rate=None, progress=silent)
    assert ([name for name, _ in sink.rows], sink.flushed) == (["a"], 1)


class RecordedOutput:
    """Where shards go."""

    def __init__(self) -> None:
        self.shards: list[list[str]] = []

    def write(self, rows: list[Row]) -> None:
        self.shards.append([name for name, _ in rows])


async def test_rows_go_into_shards_of_a_size_and_what_is_left_into_one_of_its_own() -> None:
    output = RecordedOutput()
    sink = ShardSink(output, 2)  # type: ignore[arg-type]
    for name in "abcde":
        await sink.add((name, FAILED))
    await sink.flush()
    assert output.shards == [["a", "b"], ["c", "d"], ["e"]]
    await sink.flush()
    assert len(output.shards) == 3


async def test_a_shard_that_cannot_be_written_stops_the_rows() -> None:
    class Full(Output):
        def __init__(self) -> None:
            pass

        def write(self, rows: object) -> None:
            del rows
            raise OSError("no space left")

    sink = ShardSink(Full(), 1)
    await sink.add(("a", FAILED))
    with pytest.raises(OSError, match="no space left"):
        await sink.flush()


async def test_printed_rows_come_at_once() -> None:
    seen: list[Row] = []
    sink = PrintSink(seen.append)
    await sink.add(("a", FAILED))
    assert seen == [("a", FAILED)]


def test_where_there_is_no_terminal_a_line_tells_the_rate_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    lines = Lines("classifying", clock=lambda: now)
    now = 110.0
    lines(2000, 0)
    now = 140.0
    lines(9000, 3)
    lines(9001, 3)
    assert capsys.readouterr().err == "classifying: 9,000 pictures, 3 of them failed, 233 images/s\n"
    assert not console.is_terminal
