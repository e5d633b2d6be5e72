"""Many keep-alive connections from one thread that waits for none of them. Knows nothing of schedules or pictures.

It shares the processor with the server, so it is lean: requests are bytes made beforehand, answers are cut at their
declared length, and every connection has one request at a time. Linux only (epoll).
"""

import errno
import os
import re
import select
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Heard = Callable[[Any, int, bytes, bytes], None]  # ticket, status (0: the connection broke), head, body

BROKEN = 0
_MOST_EVENTS = 1024
_PIECE_BYTES = 1 << 16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection:
    """One socket, at most one request under way. `idle`: the last request is sent whole and answered."""

    __slots__ = ("idle", "received", "socket", "ticket", "unsent")

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = self.socket.connect_ex(("127.0.0.1", port))
        if refusal not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(refusal, f"Port {port} cannot be connected to: {os.strerror(refusal)}.")
        self.ticket: Any = None
        self.unsent: memoryview | None = None
        self.received = b""
        self.idle = True


class Client:
    """Sends at once, over as many connections as that takes, and tells `heard` of every answer."""

    def __init__(self, port: int, heard: Heard, most_connections: int) -> None:
        self._port = port
        self._heard = heard
        self._most = most_connections
        self._epoll = select.epoll()
        self._all: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        self.outstanding = 0

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._all)

    def open(self, count: int) -> None:
        """Connect beforehand. Raises OSError."""
        for _ in range(count):
            self._free.append(self._connected())

    def send(self, ticket: Any, request: bytes) -> bool:
        """Send now; False where every connection is busy and there may be no more. Raises OSError."""
        connection = self._next_free()
        if connection is None:
            return False
        connection.ticket, connection.idle = ticket, False
        self.outstanding += 1
        try:
            sent = connection.socket.send(request)
        except BlockingIOError:  # still connecting
            sent = 0
        except OSError:
            self._end(connection)
            return True
        if sent < len(request):
            connection.unsent = memoryview(request)[sent:]
            self._epoll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return True

    def poll(self, timeout_s: float) -> None:
        """Take what has come, or wait for it that long (in whole ms)."""
        for number, events in self._epoll.poll(timeout_s, _MOST_EVENTS):
            connection = self._all.get(number)  # an answer may have ended others
            if connection is None:
                continue
            if events & select.EPOLLOUT:
                self._flush(connection)
            if events & ~select.EPOLLOUT and connection.socket.fileno() == number:
                self._receive(connection)

    def close(self) -> None:
        """Hang up everywhere; who waits for an answer is told that the connection broke."""
        for connection in list(self._all.values()):
            self._end(connection)
        self._epoll.close()

    def _next_free(self) -> Connection | None:
        """The one that has rested longest: worker processes that share the port all have their turn."""
        while self._free:
            connection = self._free.popleft()
            if connection.socket.fileno() >= 0:
                return connection
        return self._connected() if len(self._all) < self._most else None

    def _connected(self) -> Connection:
        connection = Connection(self._port)
        number = connection.socket.fileno()
        self._all[number] = connection
        self._epoll.register(number, select.EPOLLIN)
        return connection

    def _flush(self, connection: Connection) -> None:
        if connection.unsent is None:
            return
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            return
        except OSError:  # the server hears no more; perhaps it has answered
            self._receive(connection)
            self._end(connection)
            return
        if sent < len(connection.unsent):
            connection.unsent = connection.unsent[sent:]
            return
        connection.unsent = None
        self._epoll.modify(connection.socket.fileno(), select.EPOLLIN)
        if connection.idle:
            self._free.append(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            piece = connection.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._end(connection)
            return
        received = connection.received + piece if connection.received else piece
        head_end = received.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(received, 0, head_end) if head_end > 3 else None
        if length is None or len(received) < head_end + int(length[1]):
            connection.received = received
            return
        end = head_end + int(length[1])
        connection.received = received[end:]
        self._answered(connection, received[:head_end], received[head_end:end])

    def _answered(self, connection: Connection, head: bytes, body: bytes) -> None:
        ticket, connection.ticket, connection.idle = connection.ticket, None, True
        if b"connection: close" in head.lower():
            self._end(connection)
        elif connection.unsent is None:  # else when the rest is sent, which the server throws away
            self._free.append(connection)
        if ticket is not None:
            self.outstanding -= 1
            self._heard(ticket, int(head[9:12]), head, body)

    def _end(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        if number < 0:
            return
        del self._all[number]
        with suppress(OSError):
            self._epoll.unregister(number)
        connection.socket.close()
        connection.unsent = None
        ticket, connection.ticket = connection.ticket, None
        if ticket is not None:
            self.outstanding -= 1
            self._heard(ticket, BROKEN, b"", b"")
