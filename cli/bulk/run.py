"""Entries through a labeler into rows, until they end, too many fail, or somebody stops it."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from cli.bulk.entries import Entry
from cli.bulk.formats import Row
from cli.bulk.labeler import Labeler
from cli.bulk.outcomes import Failure
from cli.bulk.output import Output
from cli.bulk.progress import Progress

ENOUGH = 100  # pictures, before a rate of failures means anything
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Tally:
    """What is done, by earlier runs too. stopped_by: the signal that stopped it. too_many: failures, as a rate."""

    count: int = 0
    failures: int = 0
    stopped_by: int | None = None
    too_many: bool = False


class Sink(Protocol):
    """Takes rows in order."""

    async def add(self, row: Row) -> None:
        """One more row."""
        ...

    async def flush(self) -> None:
        """All rows that were added are where they belong."""
        ...


class ShardSink:
    """Rows into shards of an output. While one is written, the next is filled."""

    def __init__(self, output: Output, shard_size: int) -> None:
        self._output, self._shard_size = output, shard_size
        self._rows: list[Row] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, row: Row) -> None:
        """One more row. Cancelled, it is added all the same."""
        self._rows.append(row)
        if len(self._rows) >= self._shard_size:
            await self._write()

    async def flush(self) -> None:
        """Write what is left as a shard of its own."""
        if self._rows:
            await self._write()
        await self._written()

    async def _write(self) -> None:
        await self._written()
        rows, self._rows = self._rows, []
        self._writing = asyncio.create_task(asyncio.to_thread(self._output.write, rows))

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)  # a thread goes on, whoever stops waiting for it
            self._writing = None


class PrintSink:
    """Rows to standard output, as they come."""

    def __init__(self, echo: Callable[[Row], None]) -> None:
        self._echo = echo

    async def add(self, row: Row) -> None:
        """One more row."""
        self._echo(row)

    async def flush(self) -> None:
        """Nothing is held."""


async def run(
    entries: Iterator[Entry],
    labeler: Labeler,
    sink: Sink,
    tally: Tally,
    *,
    max_failure_rate: float | None,
    progress: Progress,
) -> Tally:
    """Add the row of every entry to the sink. What is done when something stops it or is raised, is flushed.

    max_failure_rate: of all pictures, those of earlier runs too; None: any number may fail.
    """
    consuming = asyncio.create_task(_consume(entries, labeler, sink, tally, max_failure_rate, progress))
    with _first_signal(consuming.cancel) as stopped_by:
        try:
            await consuming
        except asyncio.CancelledError:
            if not stopped_by:
                raise
            tally.stopped_by = stopped_by[0]
        finally:
            await sink.flush()
    return tally


async def _consume(
    entries: Iterator[Entry],
    labeler: Labeler,
    sink: Sink,
    tally: Tally,
    max_failure_rate: float | None,
    progress: Progress,
) -> None:
    async with aclosing(labeler.outcomes(entries)) as outcomes:
        async for name, outcome in outcomes:
            tally.count += 1
            tally.failures += isinstance(outcome, Failure)
            await sink.add((name, outcome))
            progress(tally.count, tally.failures)
            if tally.count >= ENOUGH and exceeds(tally, max_failure_rate):
                tally.too_many = True
                return


def exceeds(tally: Tally, max_failure_rate: float | None) -> bool:
    """Whether more failed than may."""
    return max_failure_rate is not None and tally.failures > max_failure_rate * tally.count


@contextmanager
def _first_signal(stop: Callable[[], object]) -> Iterator[list[int]]:
    """The first stop signal calls `stop` and is in the list; the second ends the process as it would any other."""
    loop = asyncio.get_running_loop()
    came: list[int] = []

    def forget() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def note(number: int) -> None:
        came.append(number)
        forget()
        stop()

    for number in _SIGNALS:
        loop.add_signal_handler(number, note, number)
    try:
        yield came
    finally:
        forget()
