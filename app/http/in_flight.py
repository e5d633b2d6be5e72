"""Who is inside, and closing time: no new request after it, word when the last has left, and an end for who stays."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from app.errors import Draining, NotReady

_LAST_ANSWERS_S = 0.1  # between the end of the drain and the end of those whom the batcher has not answered by then


class Drain:
    """Counts requests from their first byte on, so that one half uploaded at closing time is still served."""

    def __init__(self, on_refusal: Callable[[], object]) -> None:
        self._on_refusal = on_refusal
        self._inside: set[asyncio.Task[object]] = set()
        self._started = self._over = False
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self) -> "_InFlight":
        """Be inside for the length of a request, as a context manager.

        Raises: Draining after closing time, NotReady when the drain is over.
        """
        if self._started:
            self._on_refusal()
            raise Draining("The service is draining; expected a request to another instance.")
        return _InFlight(self)

    def _add(self, task: "asyncio.Task[object]") -> None:
        self._inside.add(task)
        self._empty.clear()

    def _discard(self, task: "asyncio.Task[object]") -> bool:
        """Whether the drain is over."""
        self._inside.remove(task)
        if not self._inside:
            self._empty.set()
        return self._over

    def start(self) -> None:
        """Closing time."""
        self._started = True

    async def wait(self, timeout_s: float) -> None:
        """Until the last has left, or `timeout_s` is over; who is inside a moment later is sent away."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            asyncio.get_running_loop().call_later(_LAST_ANSWERS_S, self._cancel_remaining)

    def _cancel_remaining(self) -> None:
        self._over = True
        for task in self._inside:
            task.cancel()


class _InFlight:
    """One request's stay; a class, because a generator costs more than the rest of it."""

    __slots__ = ("_drain", "_task")

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._task = _current_task()

    def __enter__(self) -> None:
        self._drain._add(self._task)  # noqa: SLF001 -- a visit is part of its drain

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        over = self._drain._discard(self._task)  # noqa: SLF001 -- a visit is part of its drain
        if over and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise NotReady("The service shut down before an answer; expected a request to another instance.") from None


def _current_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- requests are served by tasks
    return task
