"""Many images, several at once, with a bounded number in hand. Knows nothing of what is done with each."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import count
from typing import Self

from mixer_client.answers import Result
from mixer_client.errors import BadInput, MixerError
from mixer_client.images import Image

_IN_HAND = 2  # images for each that is under way: one slow image does not keep the others waiting


def in_threads(
    images: Iterable[Image],
    answered: Callable[[int, Image], Result],
    concurrency: int,
    stop: Callable[[], None],
    *,
    ordered: bool,
) -> Iterator[Result]:
    """Results of `answered(position, image)`, which raises nothing, from `concurrency` threads.

    `stop` is called at the end: whatever is still under way is wanted no longer.
    """
    executor = ThreadPoolExecutor(concurrency, "mixer-client")
    pending: deque[Future[Result]] = deque()
    source = _Read(images)
    try:
        for position, image in enumerate(source):
            pending.append(executor.submit(answered, position, image))
            del image
            while pending and (len(pending) >= _IN_HAND * concurrency or _is_done(pending, ordered=ordered)):
                yield _next(pending, ordered=ordered)
        while pending:
            yield _next(pending, ordered=ordered)
    finally:
        stop()
        executor.shutdown(wait=False, cancel_futures=True)
    if source.raised is not None:
        raise source.raised


class _Read:
    """Images up to the end, or to an error that is kept until those before it are answered."""

    def __init__(self, images: Iterable[Image]) -> None:
        self._images = iter(images)
        self.raised: Exception | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Image:
        try:
            return next(self._images)
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001 -- whoever wrote the iterable knows it
            self.raised = error
            raise StopIteration from None


def _is_done(pending: deque[Future[Result]], *, ordered: bool) -> bool:
    return pending[0].done() if ordered else any(future.done() for future in pending)


def _next(pending: deque[Future[Result]], *, ordered: bool) -> Result:
    """Take one out: the first that was begun, or the first that is done."""
    if ordered:
        return pending.popleft().result()
    done = next((future for future in pending if future.done()), None)
    if done is None:
        done = wait(pending, return_when=FIRST_COMPLETED).done.pop()
    pending.remove(done)
    return done.result()


async def in_tasks(
    images: Iterable[Image] | AsyncIterable[Image],
    answered: Callable[[int, Image], Awaitable[Result]],
    concurrency: int,
    *,
    ordered: bool,
) -> AsyncGenerator[Result, None]:
    """Results of `answered(position, image)`, which raises nothing, from `concurrency` tasks."""
    source = _Source(images, concurrency * _IN_HAND)
    results: asyncio.Queue[Result | BaseException | None] = asyncio.Queue()
    workers = [asyncio.create_task(_work(source, answered, results)) for _ in range(concurrency)]
    try:
        async for result in _taken(results, concurrency, ordered=ordered):
            source.let_in()
            yield result
            del result
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await source.close()


class _Source:
    """The images one by one, for several tasks; no more of them than `in_hand` before others are let in."""

    def __init__(self, images: Iterable[Image] | AsyncIterable[Image], in_hand: int) -> None:
        self._images = _asynchronous(images)
        self._positions = count()
        self._room = asyncio.Semaphore(in_hand)
        self._lock = asyncio.Lock()
        self.let_in = self._room.release

    async def next(self) -> tuple[int, Image] | None:
        """The next image with its position; None at the end."""
        await self._room.acquire()
        async with self._lock:
            with suppress(StopAsyncIteration):
                image = await anext(self._images)
                return next(self._positions), image
        self._room.release()  # for the next task to hear of the end
        return None

    async def close(self) -> None:
        """Take no more of them."""
        await self._images.aclose()


async def _work(
    source: _Source,
    answered: Callable[[int, Image], Awaitable[Result]],
    results: "asyncio.Queue[Result | BaseException | None]",
) -> None:
    try:
        while (found := await source.next()) is not None:
            results.put_nowait(await answered(*found))
            del found
    except Exception as error:  # noqa: BLE001 -- of the images: for whoever reads the results
        results.put_nowait(error)
    else:
        results.put_nowait(None)


async def _taken(
    results: "asyncio.Queue[Result | BaseException | None]", workers: int, *, ordered: bool
) -> AsyncIterator[Result]:
    """The results of as many workers, until the last one has ended; what one of them raised, after all others."""
    waiting: dict[int, Result] = {}
    raised: BaseException | None = None
    position = 0
    while workers:
        result = await results.get()
        if not isinstance(result, Result):
            workers -= 1
            raised = result if raised is None else raised
        elif not ordered:
            yield result
        else:
            waiting[result.position] = result
            del result
            while position in waiting:
                yield waiting.pop(position)
                position += 1
    if raised is not None:
        raise raised


async def _asynchronous(images: Iterable[Image] | AsyncIterable[Image]) -> AsyncGenerator[Image, None]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image


def as_value(error: MixerError | OSError) -> MixerError:
    """An error to stand in a result: that of a file that cannot be read becomes one of this package."""
    if isinstance(error, MixerError):
        return error
    unread = BadInput(f"{error.filename or 'The image'} cannot be read: {error.strerror or error}.")
    unread.__cause__ = error
    return unread


def expect_positive(concurrency: int) -> int:
    """Raises BadInput."""
    if concurrency < 1:
        raise BadInput(f"concurrency is {concurrency}; expected at least 1.")
    return concurrency
