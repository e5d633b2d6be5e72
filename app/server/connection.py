"""One HTTP connection, bounded where uvicorn leaves it open: silence ends, and nothing but headers ends too.

Its end is heard of even while nothing is read, and what ends it can be read before it ends. Knows nothing of what is
asked or answered.
"""

import asyncio
import math
from typing import Any, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import BadRequest, HeadTooLarge, ServiceError, TooManyConnections
from app.http.disconnect import Disconnects
from app.http.request_log import REFUSED
from app.server import refusals
from app.server.flow_control import CloseInterceptor, Closing, ConnectionRebalancer, HangupWatcher, OneAtATime, Timer
from app.server.framing import MAX_HEAD_BYTES, Fault, Framing, feed_without_offers
from app.server.gate import Gate
from app.server.refusals import Head, head_of, peer_of
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import CURRENT


class Connection(HttpToolsProtocol):
    """Closed when a request has not begun within the keep-alive timeout, counted from the last answer.

    Bytes that trickle in meanwhile do not postpone that, and answers that are not read get no longer. More than
    MAX_HEAD_BYTES that are no body get 431. Of requests sent ahead, no more are taken than arrived in one piece.
    A connection that an answer ends is closed once the body of its request is there. A connection that came when the
    service had as many as it may have gets 503 while that is so; uvicorn's own check counts those of one process only.
    """

    def __init__(
        self,
        *args: Any,
        hangup_watcher: HangupWatcher | None = None,
        rebalancer: ConnectionRebalancer | None = None,
        gate: Gate | None = None,
        metrics: Metrics | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._hangup_watcher = hangup_watcher
        self._rebalancer = rebalancer or ConnectionRebalancer()
        self._most = self.limit_concurrency or math.inf
        self.limit_concurrency = None
        self._one_too_many = False
        self._sends_ahead = False
        self._patience, self._unread = Timer(self.loop), Timer(self.loop)
        self._framing = Framing()
        self._running: RequestResponseCycle | None = None  # self.cycle is the last to arrive, and may wait its turn
        self._unanswered = Disconnects()  # of the requests that are not answered yet
        self._gate = gate  # what may refuse a request at its head
        self._metrics = metrics  # where refusals are counted
        self._arriving = self._refused = False  # a body; the request that it belongs to
        self._closing = Closing(self.timeout_keep_alive)  # begins once the last answer has been written
        self._offered = False  # another protocol, by the head that was read last
        self._ignores_input = False  # whatever else arrives is thrown away

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The client has connected."""
        super().connection_made(transport)
        self.flow = self._flow = OneAtATime(transport, self.pipeline, self._hangup_watcher)
        self._close_interceptor = CloseInterceptor(transport, self._leave)
        self._wait_for_a_request()
        self._one_too_many = self._rebalancer.held() >= self._most

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._flow.forget()
        self._give_up()
        self._patience.stop()
        self._unread.stop()
        super().connection_lost(exc)
        # These hold this connection as it holds them, and the body of the last request with it, until the garbage
        # collector finds them all.
        self.parser = self.cycle = self._running = self._close_interceptor = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, or of several."""
        if self._ignores_input:
            return
        self._unset_keepalive_if_required()
        self._framing.arrived(len(data))
        try:
            feed_without_offers(self, data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, Fault):
                self._end_with(error.__context__)
            else:
                self._cut_off(BadRequest("What arrived is no HTTP; expected a request of version 1.1 or 1.0."))
            return
        if self._framing.is_head_too_large() and not self.transport.is_closing():
            self._cut_off(HeadTooLarge(f"The headers have more than {MAX_HEAD_BYTES} bytes, the most expected."))

    def _end_with(self, fault: Fault) -> None:
        """The last answer: what was asked before it gets no other, and what follows is not looked at.

        That is read for a second all the same, or its client might be told of a reset only.
        """
        self._ignores_input = True
        if self._closing.has_begun or self.transport.is_closing():
            self._give_up()
            self.transport.close()
            return
        if not self._is_answered():
            self._tell(fault.error, head_of(self))
        self._arriving = not fault.is_flood
        self._closing.hasten()
        self.flow.resume_reading()
        self._leave()

    def _cut_off(self, error: ServiceError) -> None:
        """Close at once: where a request ends in what arrived, if it is one, nobody can say."""
        self._ignores_input = True
        if not (self._closing.has_begun or self.transport.is_closing() or self._is_answered()):
            self._tell(error, Head(client=peer_of(self)))
        self.transport.close()
        self._give_up()

    def _is_answered(self) -> bool:
        """Whether the request whose body arrives has its answer already: a second one would be taken for another's."""
        return self._arriving and (self._refused or (self.cycle is not None and self.cycle.response_complete))

    def _tell(self, error: ServiceError, head: Head) -> None:
        """Write the error as an answer. For a request whose body is at fault, it is that request's own answer."""
        refused = refusals.refused(error, head)
        self.transport.write(refusals.answer(error, refused.request_id, head.path))
        under_way = self._running
        if self._arriving and under_way is self.cycle and under_way is not None and not under_way.response_started:
            cast(Scope, under_way.scope)[REFUSED] = refused
        else:
            CURRENT.set(None)  # what is read here belongs to no request, whichever made this callback
            refusals.record(refused, head, self._metrics)
        self._give_up()

    def on_headers_complete(self) -> None:
        """A request has begun."""
        self._offered = self.parser.should_upgrade()
        if self._offered and self.parser.get_method() != b"CONNECT":
            return  # the same head follows, without the offer
        if self._closing.has_begun:
            return
        if self._offered:
            raise Fault(BadRequest("The method is CONNECT; this is no proxy."))
        self._framing.request_begins(self.parser.get_http_version(), self.headers)
        self._arriving = True
        self._patience.stop()
        self._refused = self._is_refused()
        if self._refused:
            return
        self._unanswered.add(cast(Scope, self.scope))
        super().on_headers_complete()
        self.headers = []  # trailers are none of the headers
        self.cycle.transport = cast(asyncio.Transport, self._close_interceptor)
        if self.pipeline:
            self._sends_ahead = True
            return
        self._running = self.cycle
        # A client that sends ahead would lose what it has sent.
        if not self._sends_ahead and self._rebalancer.should_close_one():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body."""
        self._framing.body_goes_on(len(body))
        if not (self._refused or self._closing.has_begun):
            super().on_body(body)

    def on_chunk_header(self) -> None:
        """The next chunk of a chunked body begins."""
        self._framing.chunk_begins()

    def on_message_complete(self) -> None:
        """The request has arrived completely."""
        if self._offered:
            return
        self._framing.request_ends()
        if self._closing.has_begun:
            self.transport.close()
        elif not self._refused:
            super().on_message_complete()
        self._arriving = self._refused = False

    def on_response_complete(self) -> None:
        """The request has been answered."""
        self._unanswered.answered()
        if self._closing.has_begun:
            self.server_state.total_requests += 1
            self._give_up()
            if not self.transport.is_closing():
                self.flow.resume_reading()  # the rest of a body, which nobody wants
            return
        self._running = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:  # no other request waits
            self._wait_for_a_request()

    def shutdown(self) -> None:
        """The server ends once what has begun is answered."""
        self._closing.hasten()
        if self._closing.has_begun:
            self._wait(self._closing.within_s)
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """The client does not read what it is answered."""
        super().pause_writing()
        self._unread.start(self.timeout_keep_alive, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._unread.stop()

    def _give_up(self) -> None:
        """Nobody reads an answer any more: on a closed transport one would be an error, a line in the log for each."""
        self._unanswered.set_all()
        if self._gate is not None:
            self._gate.count_abandoned(cast(Scope, cycle.scope) for cycle, _ in self.pipeline)
        self.pipeline.clear()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _is_refused(self) -> bool:
        """Whether it has had its answer by now: there is no room for its connection, or for what it asks."""
        if self._unanswered:  # others of the same connection are to be answered first
            return False
        if self._one_too_many and self._rebalancer.held() >= self._most:
            detail = f"There are more than {self._most - 1} connections, the most expected; try again later."
            self._tell(TooManyConnections(detail), head_of(self))
            self._leave()
            return True
        if self._gate is None:
            return False
        keeps = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        answer = self._gate.reject_early(self.parser.get_method(), self.url, cast(Scope, self.scope), keep_alive=keeps)
        if answer is not None:
            self.transport.write(refusals.with_headers(answer, self.server_state.default_headers))
            (self._leave if b"\r\nconnection: close\r\n" in answer else self._wait_for_a_request)()
        return answer is not None

    def _leave(self) -> None:
        """Say no more, and close once the rest of a body has arrived."""
        self._closing.begin(self.transport, self._wait, arriving=self._arriving)

    def _wait_for_a_request(self) -> None:
        self._wait(self.timeout_keep_alive)

    def _wait(self, seconds: float) -> None:
        self._patience.start(seconds, self.timeout_keep_alive_handler)
