"""Who is inside, and closing time: no new request after it, word when the last has left, and an end for who stays."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import NotReady

_LAST_ANSWERS_S = 0.1  # between the end of the drain and the end of those whom the batcher has not answered by then


class Drain:
    """Counts requests from their first byte on, so that one half uploaded at closing time is still served."""

    def __init__(self, on_refusal: Callable[[], object]) -> None:
        self._on_refusal = on_refusal
        self._inside: set[asyncio.Task[object]] = set()
        self._started = self._over = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside for the length of a request. Raises NotReady after closing time, and when the drain is over."""
        if self._started:
            self._on_refusal()
            raise NotReady("The service is draining; expected a request to another instance.")
        task = _current_task()
        self._inside.add(task)
        self._empty.clear()
        try:
            yield
        except asyncio.CancelledError:
            if not self._over:
                raise
            task.uncancel()
            raise NotReady("The service shut down before an answer; expected a request to another instance.") from None
        finally:
            self._inside.remove(task)
            if not self._inside:
                self._empty.set()

    def start(self) -> None:
        """Closing time."""
        self._started = True

    async def wait(self, timeout_s: float) -> None:
        """Until the last has left, or `timeout_s` is over; who is inside a moment later is sent away."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            asyncio.get_running_loop().call_later(_LAST_ANSWERS_S, self._send_away)

    def _send_away(self) -> None:
        self._over = True
        for task in self._inside:
            task.cancel()


def _current_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- requests are served by tasks
    return task
