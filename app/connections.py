"""One HTTP connection, bounded where uvicorn leaves it open: silence ends, and nothing but headers ends too.

Knows nothing of what is asked or answered.
"""

import asyncio
from collections import deque
from collections.abc import Sized
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.gate import Gate
from app.hang_up import HangUp, announce

GATE = "mixer.gate"  # in the state of the application: what may refuse a request at its head
MAX_HEAD_BYTES = 64 << 10  # of a request line with its headers, of trailers, of chunk extensions
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
)


class _OneAtATime(FlowControl):
    """Reads no further while requests wait for others of the same connection: each answer would let in hundreds."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """If nothing waits."""
        if not self._waiting:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """Closed when a request has not begun within the keep-alive timeout, counted from the last answer.

    Bytes that trickle in meanwhile do not postpone that, and answers that are not read get no longer. More than
    MAX_HEAD_BYTES that are no body get 431. Of requests sent ahead, no more are taken than arrived in one piece.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._bytes_without_progress = 0
        self._running: RequestResponseCycle | None = None  # self.cycle is the last to arrive, and may wait its turn
        self._hang_ups: deque[HangUp] = deque()  # of the requests that are not answered yet, oldest first
        self._gate: Gate | None = self.app_state.get(GATE)
        self._refused = False  # the request whose body is arriving

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client has connected."""
        super().connection_made(transport)
        self.flow = _OneAtATime(transport, self.pipeline)
        self._wait_for_a_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._give_up()
        self._stop_waiting()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, or of several."""
        self._bytes_without_progress += len(data)
        super().data_received(data)
        if self._bytes_without_progress > MAX_HEAD_BYTES and not self.transport.is_closing():
            words = b"The headers have more than %d bytes, the most expected." % MAX_HEAD_BYTES
            self.transport.write(_TOO_LARGE % (len(words), words))
            self.transport.close()
            self._give_up()

    def send_400_response(self, msg: str) -> None:
        """What arrived is no HTTP; what was asked before it gets no other answer."""
        super().send_400_response(msg)
        self._give_up()

    def on_headers_complete(self) -> None:
        """A request has begun."""
        self._bytes_without_progress = 0
        self._stop_waiting()
        self._refused = self._gate is not None and not self._hang_ups and self._refuse(self._gate)
        if self._refused:
            self._wait_for_a_request()
            return
        self._hang_ups.append(announce(cast(Scope, self.scope)))
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._bytes_without_progress = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it has arrived."""
        self._bytes_without_progress = 0
        if not self._refused:
            super().on_message_complete()
        self._refused = False

    def on_response_complete(self) -> None:
        """It has been answered."""
        if self._hang_ups:
            self._hang_ups.popleft()
        self._running = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:  # no other request waits
            self._wait_for_a_request()

    def pause_writing(self) -> None:
        """The client does not read what it is answered."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def _give_up(self) -> None:
        """Nobody reads an answer any more: on a closed transport one would be an error, a line in the log for each."""
        for hang_up in self._hang_ups:
            hang_up.tell()
        self._hang_ups.clear()
        self.pipeline.clear()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _refuse(self, gate: Gate) -> bool:
        answer = gate.refuses(self.parser.get_method(), self.url, self.headers)
        if answer is None:
            return False
        status, _, rest = answer.partition(b"\r\n")
        dates = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(b"%b\r\n%b%b" % (status, dates, rest))
        if b"\r\nconnection: close\r\n" in answer:
            self.transport.close()
        return True

    def _wait_for_a_request(self) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
