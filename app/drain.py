"""Who is inside, and closing time: no new request after it, and word when the last has left. Counts, no more."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import NotReady


class Drain:
    """Counts requests from their first byte on, so that one half uploaded at closing time is still served."""

    def __init__(self, on_refusal: Callable[[], object]) -> None:
        self._on_refusal = on_refusal
        self._inside = 0
        self._started = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be inside for the length of a request. Raises NotReady after closing time."""
        if self._started:
            self._on_refusal()
            raise NotReady("The service is draining; expected a request to another instance.")
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    def start(self) -> None:
        """Closing time."""
        self._started = True

    async def wait(self, timeout_s: float) -> None:
        """Until the last has left, or `timeout_s` is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return
