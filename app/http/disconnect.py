"""Word that a client has gone, for whoever works for it. Knows nothing of what is worked on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from app.errors import ClientGone

T = TypeVar("T")

_KEY = "mixer.hang_up"  # of an ASGI scope


class HangUp:
    """Tells one listener, once."""

    __slots__ = ("_listener", "told")

    def __init__(self) -> None:
        self.told = False
        self._listener: Callable[[], object] | None = None

    def tell(self) -> None:
        """The client has gone."""
        self.told = True
        if self._listener is not None:
            self._listener()

    def listen(self, listener: Callable[[], object] | None) -> None:
        """Call `listener` then, or at once where the client has gone already. None: nobody listens any more."""
        self._listener = listener
        if self.told and listener is not None:
            listener()


def announce(scope: Scope) -> HangUp:
    """Put the means to tell into the scope of a request: it spares a task that waits for the client's last message."""
    hang_up: HangUp = scope.setdefault(_KEY, HangUp())
    return hang_up


async def while_connected(scope: Scope, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientGone then."""
    if _KEY in scope:
        return await _unless_told(scope[_KEY], work)
    hang_up = announce(scope)
    waiting = asyncio.ensure_future(_wait_for_the_end(receive, hang_up))
    try:
        return await _unless_told(hang_up, work)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _unless_told(hang_up: HangUp, work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- requests are served by tasks
    hang_up.listen(task.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not hang_up.told:
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        hang_up.listen(None)


async def _wait_for_the_end(receive: Receive, hang_up: HangUp) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    hang_up.tell()
