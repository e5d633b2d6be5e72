"""Answers by this machine's processors: batches of pictures to whoever is free, outcomes back in order."""

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from cli.bulk.entries import Entry, Ready, ready
from cli.bulk.outcomes import Outcome
from cli.bulk.processes import Answer, Answering

_BATCH = 16  # pictures that go to a process together
_BATCH_BYTES = 8 << 20  # and about so many bytes at most, so that what is held does not grow with the pictures
_BATCHES_AHEAD = 2  # for each channel: one that it has, one that waits

_Names = list[str]
_Given = tuple[_Names, "Future[list[Outcome]]"]


class LocalLabeler:
    """A Labeler over answering processes, or over this one."""

    def __init__(self, answering: Answering) -> None:
        self.model: Mapping[str, str] = answering.model
        self._answers = answering.answers

    async def outcomes(self, entries: Iterator[Entry]) -> AsyncGenerator[tuple[str, Outcome]]:
        """The name and the outcome of each entry, in order; a bounded number of batches is under way."""
        feed = _Feed(entries, self._answers)
        try:
            while (given := await feed.next()) is not None:
                names, future = given
                found = await asyncio.wrap_future(future)
                feed.more()
                for pair in zip(names, found, strict=True):
                    yield pair
        finally:
            feed.stop()


class _Feed:
    """A thread that takes entries, and gives batches of them to whoever is free."""

    def __init__(self, entries: Iterator[Entry], answers: Sequence[Answer]) -> None:
        self._entries = entries
        self._loop = asyncio.get_running_loop()
        self._given: asyncio.Queue[_Given | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(_BATCHES_AHEAD * len(answers))
        self._free: SimpleQueue[Answer] = SimpleQueue()
        for answer in answers:
            self._free.put(answer)
        self._pool = ThreadPoolExecutor(len(answers), "ask")
        self._stopping = False
        threading.Thread(target=self._feed, name="feed", daemon=True).start()

    async def next(self) -> _Given | None:
        """The next batch, in order; None after the last. Raises what taking an entry raised."""
        given = await self._given.get()
        if isinstance(given, BaseException):
            raise given
        return given

    def more(self) -> None:
        """A batch is done: there is room for another."""
        self._room.release()

    def stop(self) -> None:
        """No entry is wanted any more."""
        self._stopping = True
        self._room.release()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _feed(self) -> None:
        last: BaseException | None = None
        try:
            for batch in batches(self._entries):
                self._room.acquire()
                if self._stopping:
                    return
                self._tell(([entry.name for entry in batch], self._pool.submit(self._ask, batch)))
        except BaseException as error:  # noqa: BLE001 -- it is raised where somebody waits for the batch
            last = error
        self._tell(last)

    def _tell(self, given: _Given | BaseException | None) -> None:
        if not self._stopping:
            self._loop.call_soon_threadsafe(self._given.put_nowait, given)

    def _ask(self, batch: list[Ready]) -> list[Outcome]:
        answer = self._free.get()
        try:
            return answer(batch)
        finally:
            self._free.put(answer)


def batches(entries: Iterator[Entry]) -> Iterator[list[Ready]]:
    """Entries by so many, or so many bytes, as go to whoever answers together."""
    batch: list[Ready] = []
    size = 0
    for entry in map(ready, entries):
        batch.append(entry)
        size += _size(entry)
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _size(entry: Ready) -> int:
    content = entry.content
    return len(content) if isinstance(content, bytes) else getattr(content, "size", None) or sys.getsizeof(content)
