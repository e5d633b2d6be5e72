"""Requests under way, and what ends one early: closing time, or a client that hangs up. Knows nothing of their work."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.types import Scope

from app.errors import ClientGone, Draining, NotReady
from app.http.disconnect import DISCONNECT

_LAST_ANSWERS_S = 0.1  # between the end of the drain and the end of those whom the batcher has not answered by then


class InFlight:
    """The requests for pictures, from their first byte on: one half uploaded at closing time is still served.

    It alone says whether the service is draining.
    """

    def __init__(self, on_refusal: Callable[[], object] = lambda: None) -> None:
        self.is_draining = False
        self.drain_begun = asyncio.Event()  # for those who would not end by themselves
        self._on_refusal = on_refusal
        self._tasks: set[asyncio.Task[object]] = set()
        self._over = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def entered(self, scope: Scope) -> Iterator[None]:
        """A request, in its task, which is cancelled where its client hangs up, or at the end of the drain.

        Raises: Draining after closing time, NotReady when the drain is over, ClientGone.
        """
        if self.is_draining:
            self._on_refusal()
            raise Draining("The service is draining; expected a request to another instance.")
        task, disconnect = asyncio.current_task(), scope.get(DISCONNECT)
        assert task is not None  # noqa: S101 -- requests are served by tasks
        if disconnect is not None and disconnect.is_set:
            raise ClientGone
        self._tasks.add(task)
        self._empty.clear()
        try:
            if disconnect is not None:
                disconnect.listener = task.cancel
            yield
        except asyncio.CancelledError:
            if disconnect is not None and disconnect.is_set:
                task.uncancel()
                raise ClientGone from None
            if self._over:
                task.uncancel()
                raise NotReady(
                    "The service shut down before an answer; expected a request to another instance."
                ) from None
            raise
        finally:
            if disconnect is not None:
                disconnect.listener = None
            self._tasks.discard(task)
            if not self._tasks:
                self._empty.set()

    def start_draining(self) -> None:
        """Closing time: no new request from now on."""
        self.is_draining = True
        self.drain_begun.set()

    async def wait(self, timeout_s: float) -> None:
        """Until the last has ended, or `timeout_s` is over; what is under way a moment later is cancelled."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            asyncio.get_running_loop().call_later(_LAST_ANSWERS_S, self._cancel_remaining)

    def _cancel_remaining(self) -> None:
        self._over = True
        for task in self._tasks:
            task.cancel()
