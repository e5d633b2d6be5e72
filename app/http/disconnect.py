"""Word that a client has gone, for whoever works for it. Knows nothing of what is worked on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from app.errors import ClientGone

T = TypeVar("T")

_KEY = "mixer.disconnect"  # of an ASGI scope


class Disconnect:
    """Tells one listener, once."""

    __slots__ = ("_listener", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._listener: Callable[[], object] | None = None

    def set(self) -> None:
        """The client has gone."""
        self.is_set = True
        if self._listener is not None:
            self._listener()

    def on(self, listener: Callable[[], object] | None) -> None:
        """Call `listener` then, or at once where the client has gone already. None: nobody listens any more."""
        self._listener = listener
        if self.is_set and listener is not None:
            listener()


def announce(scope: Scope) -> Disconnect:
    """Put the means to tell into the scope of a request: it spares a task that waits for the client's last message."""
    disconnect: Disconnect = scope.setdefault(_KEY, Disconnect())
    return disconnect


async def cancel_on_disconnect(scope: Scope, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientGone then."""
    if _KEY in scope:
        return await _unless_disconnected(scope[_KEY], work)
    disconnect = announce(scope)
    waiting = asyncio.ensure_future(_wait_for_the_end(receive, disconnect))
    try:
        return await _unless_disconnected(disconnect, work)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _unless_disconnected(disconnect: Disconnect, work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- requests are served by tasks
    disconnect.on(task.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if not disconnect.is_set:
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        disconnect.on(None)


async def _wait_for_the_end(receive: Receive, disconnect: Disconnect) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    disconnect.set()
