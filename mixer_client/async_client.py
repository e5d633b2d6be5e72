"""The client, for programs with an event loop of asyncio. One loop at a time."""

import asyncio
import time
from array import array
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import suppress
from os import PathLike
from types import TracebackType
from typing import Self, TypeVar

import httpx

from mixer_client import calls, many, retries
from mixer_client.answers import Classification, Embedding, Explanation, Models, Result
from mixer_client.attempts import Attempts
from mixer_client.calls import Call, Target, Wish
from mixer_client.connections import AsyncConnections
from mixer_client.errors import MixerError
from mixer_client.images import Image, Payload, payload_of
from mixer_client.pace import Pace
from mixer_client.retries import Retries

T = TypeVar("T")
_LONGEST_S = 3600  # one wait: no loop need take an endless one


class AsyncClient:
    """As Client, whose documentation holds here, too. transport: as httpx.AsyncHTTPTransport(verify=...).

    A file is read, and an image of Pillow is compressed, in a thread.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 10.0,
        retries: Retries = retries.DEFAULT,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = Target(base_url, key)
        self._timeout_s = calls.expect_seconds(timeout_s)
        self._retries, self._clock = retries, clock
        self._pace = Pace(retries)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._connections = AsyncConnections(self._target.address, transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections. It can ask nothing after that."""
        await self._connections.close()

    async def classify(
        self,
        image: Image,
        *,
        model: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        coverage: float | None = None,
        timeout_s: float | None = None,
    ) -> Classification:
        """The labels of one image."""
        call = calls.classification(await _payload_of(image), Wish(model, top_k, threshold, coverage))
        return await self._ask(call, timeout_s)

    def classify_many(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        *,
        concurrency: int = 8,
        ordered: bool = True,
        model: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        coverage: float | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Result, None]:
        """The labels of many images; `images` may be asynchronous."""
        wish = Wish(model, top_k, threshold, coverage)

        async def answered(position: int, image: Image) -> Result:
            try:
                call = calls.classification(await _payload_of(image), wish)
                classification = await self._ask(call, timeout_s, is_patient=True)
            except (MixerError, OSError) as error:
                return Result(position, image, error=many.as_value(error))
            return Result(position, image, classification)

        return many.in_tasks(images, answered, many.expect_positive(concurrency), ordered=ordered)

    async def embed(
        self, image: Image, *, model: str | None = None, normalized: bool = True, timeout_s: float | None = None
    ) -> "array[float]":
        """What the model sees in an image: float32 numbers, of length 1 together where they are `normalized`."""
        if not normalized:
            return (await self.embedding(image, model=model, timeout_s=timeout_s)).values
        return await self._ask(calls.unit_embedding(await _payload_of(image), model), timeout_s)

    async def embedding(self, image: Image, *, model: str | None, timeout_s: float | None = None) -> Embedding:
        """The numbers as the model's graph gives them, and which model that is; `model` has to be named."""
        return await self._ask(calls.raw_embedding(await _payload_of(image), model), timeout_s)

    async def explain(
        self,
        image: Image,
        target: str | int | None = None,
        *,
        method: str = "occlusion",
        baseline: str = "mean",
        model: str | None = None,
        timeout_s: float | None = None,
    ) -> Explanation:
        """Which parts of an image speak for a label. target: a label or its index; None: the most probable."""
        call = calls.explanation(await _payload_of(image), target, method, baseline, model)
        return await self._ask(call, timeout_s)

    async def models(self, *, timeout_s: float | None = None) -> Models:
        """The models that are served."""
        return await self._ask(calls.models(), timeout_s)

    async def ready(self, *, timeout_s: float | None = None) -> bool:
        """Whether the service is there and classifies rightly. Asks once, and raises nothing where it is not."""
        left_s = self._timeout_s if timeout_s is None else calls.expect_seconds(timeout_s)
        call = calls.readiness()
        with suppress(httpx.RequestError, TimeoutError):
            async with asyncio.timeout(left_s):
                return call.read(await self._connections.send(self._target.request(call, left_s)))
        return False

    async def _ask(self, call: Call[T], timeout_s: float | None, *, is_patient: bool = False) -> T:
        given_s = self._timeout_s if timeout_s is None else calls.expect_seconds(timeout_s)
        attempts = Attempts(self._pace, self._retries, self._clock, given_s, is_patient=is_patient)
        while True:
            await self._wait_for_turn(attempts)
            answer = await self._send(call, attempts)
            if answer is not None:
                return call.read(answer)

    async def _wait_for_turn(self, attempts: Attempts) -> None:
        try:
            while (wait_s := attempts.turn_s()) > 0:
                await self._wait(wait_s)
        finally:
            if self._pace.has_room():
                self._notify()

    async def _wait(self, wait_s: float) -> None:
        """Until so many seconds have passed, or a call has ended."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        timer = loop.call_later(min(wait_s, _LONGEST_S), _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            with suppress(ValueError):
                self._waiting.remove(waiter)

    def _notify(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _send(self, call: Call[T], attempts: Attempts) -> httpx.Response | None:
        """The answer; None where it is to be asked again."""
        left_s = attempts.left_s
        try:
            async with asyncio.timeout(left_s):
                answer = await self._connections.send(self._target.request(call, left_s))
        except httpx.RequestError as error:
            self._notify()
            attempts.failed(error, self._target.address)
            return None
        except TimeoutError as error:
            self._notify()
            attempts.gave_up()
            raise attempts.timed_out(self._target.address) from error
        except BaseException:
            self._notify()
            attempts.gave_up()
            raise
        self._notify()
        return attempts.answered(answer)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _payload_of(image: Image) -> Payload:
    """What reads a file or compresses pixels does so in a thread."""
    if isinstance(image, bytes | bytearray | memoryview) or not _takes_time(image):
        return payload_of(image)
    return await asyncio.to_thread(payload_of, image)


def _takes_time(image: Image) -> bool:
    return isinstance(image, str | PathLike) or hasattr(image, "getexif")
