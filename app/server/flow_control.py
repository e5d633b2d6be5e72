"""When a connection is read from, who may keep one, how it ends, and clients that hang up. Knows nothing of requests.

An event loop hears of a hang-up by reading to the end, and reads no further where a client has sent more than it wants.
The system tells of it all the same, whatever is left unread.
"""

import asyncio
import select
from collections.abc import Callable, Sized

from uvicorn.protocols.http.flow_control import FlowControl

_HASTE_S = 1.0  # for a body that nobody wants, when the server ends


class HangupWatcher:
    """Tells of clients that hang up: one epoll for all connections of an event loop."""

    def __init__(self) -> None:
        self._listeners: dict[int, Callable[[], object]] = {}
        self._epoll = select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._tell)

    def watch(self, file: int, listener: Callable[[], object]) -> None:
        """Call `listener` once when the other end of this socket sends no more, or is gone."""
        if not self._epoll.closed:
            self._listeners[file] = listener
            self._epoll.register(file, select.EPOLLRDHUP)  # an error and the end of both directions are told unasked

    def forget(self, file: int) -> None:
        """Watch it no longer; before it is closed, as another may then get its number."""
        if self._listeners.pop(file, None) is not None:
            self._epoll.unregister(file)

    def close(self) -> None:
        """Watch nothing any more."""
        self._listeners.clear()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _tell(self) -> None:
        for file, _ in self._epoll.poll(0):
            listener = self._listeners[file]
            self.forget(file)
            listener()


class OneAtATime(FlowControl):
    """Reads no further while requests wait for others of the same connection: each answer would let in hundreds.

    While it does not read, `hangup_watcher` tells of a client that goes.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized, hangup_watcher: HangupWatcher | None) -> None:
        super().__init__(transport)
        self._waiting = waiting
        self._socket = transport.get_extra_info("socket")
        self._hangup_watcher = hangup_watcher

    def pause_reading(self) -> None:
        """Read nothing, and watch for a hang-up."""
        if self._hangup_watcher is not None and not self.read_paused:
            self._hangup_watcher.watch(self._socket.fileno(), self._transport.abort)
        super().pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless requests wait."""
        if not self._waiting and self.read_paused:
            self.forget()
            super().resume_reading()

    def forget(self) -> None:
        """Watch for no hang-up."""
        if self._hangup_watcher is not None and self.read_paused:
            self._hangup_watcher.forget(self._socket.fileno())


class ConnectionRebalancer:
    """All connections of a process. `excess_connections` of them are closed with their next answer, to move elsewhere.

    `held`: how many the whole service has.
    """

    def __init__(self, held: Callable[[], int] = lambda: 0) -> None:
        self.held = held
        self.excess_connections = 0

    def should_close_one(self) -> bool:
        """Whether one more connection is to be closed."""
        if self.excess_connections <= 0:
            return False
        self.excess_connections -= 1
        return True


class CloseInterceptor:
    """What answers are written to: a transport whose close() is the connection's own."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, close


class Closing:
    """How a connection ends: it says no more, and is closed once the rest of a body has arrived.

    Before, its client might be told of a reset only. A client that sends on for ever is closed on after `within_s`, or
    a second where the server ends.
    """

    def __init__(self, within_s: float) -> None:
        self.has_begun = False
        self.within_s = within_s

    def hasten(self) -> None:
        """A second is enough."""
        self.within_s = min(_HASTE_S, self.within_s)

    def begin(self, transport: asyncio.Transport, wait: Callable[[float], None], *, arriving: bool) -> None:
        """`wait`: closes after so many seconds. `arriving`: whether there is a body whose rest is to come."""
        self.has_begun = True
        if not arriving or transport.is_closing():
            transport.close()
            return
        if transport.can_write_eof():
            transport.write_eof()
        wait(self.within_s)


class Timer:
    """Calls something once after a time, unless it is stopped or started anew before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float, then: Callable[[], object]) -> None:
        """Call `then` after `seconds`, in place of what was started before."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(seconds, then)

    def stop(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
