"""Takes connections from a socket that several processes listen on, each about as many. Knows nothing of HTTP.

Left to the kernel, the worker that wakes first takes all that have come: of 32 clients that keep their connections, one
worker may get every one, and the others idle.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

_MORE = 1  # connections than the least busy worker: that many are no reason to leave one to it ...
_MORE_SHARE = 32  # ... and one more for so many of its own: of many, fewer than that differ little
_MOST_AT_ONCE = 64  # connections taken before anything else has its turn
_PATIENCE_S = 0.005  # for another process to take what was left
_HANDSHAKE_S = 10.0  # for a client to agree on a key
_MOST_AT_THE_END = 1000  # who go on coming then are left to the system
_NO_FILES_S = 0.1  # before the next attempt where this process may open no more files

log = logging.getLogger("mixer.acceptor")


class Acceptor:
    """Listens until it is closed; `others` tells how many connections each other process has, `own` this one's.

    Handshakes of TLS count as connections: `on_opening` is told of one more, and one less, and where the service
    `is_full` of both, one more is closed without a word.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        own: Callable[[], int],
        others: Callable[[], list[int]],
        context: ssl.SSLContext | None,
        is_full: Callable[[], bool] = lambda: False,
        on_opening: Callable[[int], object] = lambda change: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol, self._own, self._others, self._context = protocol, own, others, context
        self._is_full, self._on_opening = is_full, on_opening
        self._pause: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take the connections that wait, and no more: closing the socket would reset those that wait."""
        for _ in range(_MOST_AT_THE_END):
            if not self._take():
                break
        self.leave_to_others()

    def leave_to_others(self) -> None:
        """Take nobody for now: other processes listen on the socket, too."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()

    def listen(self) -> None:
        """Take new connections again."""
        self._listen()

    async def wait_closed(self) -> None:
        """Until those that were taken are open."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _accept_or_yield(self) -> None:
        others = self._others()
        if self._has_its_share(others):
            self._rest(_PATIENCE_S, lambda: self._take_what_was_left(sum(others)))
            return
        for _ in range(_MOST_AT_ONCE):  # one at a time, a flood would overrun what the system keeps of it
            if not self._take() or self._has_its_share(others):
                return

    def _take_what_was_left(self, held_by_others: int) -> None:
        """Take one, unless others have taken some meanwhile: then what waits now has only just come."""
        if sum(self._others()) == held_by_others:
            self._take()
        else:
            self._accept_or_yield()

    def _has_its_share(self, others: list[int]) -> bool:
        own = self._own() + len(self._opening)
        return bool(others) and own > min(others) + _MORE + own // _MORE_SHARE

    def _take(self) -> bool:
        """Whether there was one to take."""
        self._listen()
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another process was faster, or the client has gone
        except OSError as error:
            log.error("a connection cannot be taken: %s", error.strerror)  # noqa: TRY400 -- no mistake of ours
            self._rest(_NO_FILES_S, self._take)
            return False
        if self._context is not None:
            if self._is_full():
                connection.close()
                return True
            self._on_opening(1)
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opened)
        return True

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        patience_s = None if self._context is None else _HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=patience_s
            )
        except (OSError, ssl.SSLError) as error:
            log.info("a connection was not opened: %s", error)
            connection.close()

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if self._context is not None:
            self._on_opening(-1)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept_or_yield)

    def _rest(self, seconds: float, then: Callable[[], object]) -> None:
        """Listen no more, and do this after so many seconds."""
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, then)
