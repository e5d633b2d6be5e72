"""One call, as the rest of the service sees a request: headers, timing, a line in the log, counts, an error.

Knows nothing of what is asked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.types import Scope

from app.api.classification import TIMEOUT
from app.errors import DeadlinePassed, ServiceError, forget_frames
from app.http.dispatcher import HELD
from app.http.in_flight import InFlight
from app.http.problems import PROBLEM
from app.http.request_log import REQUEST_ID, TIMING, Timing, finish, request_id_of
from app.http.request_span import CLIENT_GONE_STATUS, SPAN
from app.rpc.call_span import described
from app.rpc.statuses import Metadata, code_of, message_of, metadata_of
from app.telemetry.metrics import Metrics
from app.telemetry.trace_context import TRACEPARENT, TRACESTATE
from app.telemetry.tracing import Tracing

_OK = 200  # logs and metrics have the statuses of HTTP, so that one rule watches both
_TIMEOUT = TIMEOUT.lower()
_ID = REQUEST_ID.decode()
_TRACE_HEADERS = (TRACEPARENT.decode(), TRACESTATE.decode())
_AT_LEAST_MS = 1e-3
_CLOCKS_APART_S = 0.05

log = logging.getLogger("mixer.rpc")


class Method(NamedTuple):
    """A method of a service. `path`: what metrics call it."""

    name: str
    path: str


def method(name: str) -> Method:
    """The method with this name."""
    return Method(name, f"grpc {name}")


class Call:
    """One call, or one message of a stream. `headers`: its metadata, with its deadline as HTTP clients say theirs."""

    def __init__(self, context: Any, asked: Method, headers: Mapping[str, str] | None = None) -> None:
        timing = Timing()
        self.asked_id = ""  # the client's own, of what it asks
        self.context, self.timing = context, timing
        self.headers = _headers(context) if headers is None else headers
        given = self.headers.get(_ID)
        self.request_id = timing.request_id = request_id_of(() if given is None else ((REQUEST_ID, given.encode()),))
        self.scope: Scope = {
            TIMING: timing,
            "method": "gRPC",
            "path": asked.name,
            "route": asked,
            SPAN: described,
            "client": (_host(context.peer()),),
        }

    def trailers(self, error: ServiceError | None = None) -> Metadata:
        """What is told after the answer."""
        more = () if error is None else metadata_of(error)
        return (_ID, self.request_id), ("server-timing", self.timing.header()), *more

    def trace_headers(self) -> list[tuple[bytes, bytes]]:
        """Where it comes from, as HTTP says it."""
        given = self.context.invocation_metadata() or ()
        return [(name.encode(), value.encode()) for name, value in given if name in _TRACE_HEADERS]

    def is_late(self) -> bool:
        """Whether its deadline has passed, by the client's clock, which may be a little ahead: it hangs up then."""
        left_s = self.context.time_remaining()
        return left_s is not None and left_s <= _CLOCKS_APART_S


@dataclass(frozen=True)
class Calls:
    """Answers calls, whatever happens, and counts and logs each."""

    in_flight: InFlight
    metrics: Metrics
    tracing: Tracing | None = None

    async def answer(self, call: Call, work: Callable[[Call], Awaitable[bytes]], *, drains: bool = False) -> bytes:
        """The answer to a call of its own. `drains`: whether the end waits for it, and it may not begin after that."""
        outcome = await self.outcome(call, work, drains=drains)
        if isinstance(outcome, ServiceError):
            await call.context.abort(code_of(outcome), message_of(outcome), call.trailers(outcome))
        call.context.set_trailing_metadata(call.trailers())
        return outcome  # type: ignore[return-value]  # abort raises

    async def outcome(
        self, call: Call, work: Callable[[Call], Awaitable[bytes]], *, drains: bool
    ) -> bytes | ServiceError:
        """The answer, or why there is none. Cancelled where the client has gone or its deadline has passed."""
        scope, status = call.scope, CLIENT_GONE_STATUS
        if self.tracing is not None:
            call.timing.trace = self.tracing.begin(call.trace_headers(), call.timing.started)
        try:
            with self.in_flight.entered(scope) if drains else nullcontext():
                answer = await work(call)
        except ServiceError as error:
            forget_frames(error)
            status = _note(scope, error)
            return error
        except asyncio.CancelledError:
            if call.is_late():
                status = _note(scope, DeadlinePassed("The client's deadline passed before the answer."))
            elif drains and "receive" not in call.timing.stages:
                self.metrics.dropped("receive", "client_gone")
            raise
        except Exception as error:
            log.exception("call failed", extra={"request_id": call.request_id})
            forget_frames(error)
            failure = ServiceError("The service failed on this request; its log says why.")
            status = _note(scope, failure)
            return failure
        else:
            status = _OK
            return answer
        finally:
            if HELD in scope:
                scope.pop(HELD).release()
            finish(self.metrics, scope, call.request_id, status)


def _note(scope: Scope, error: ServiceError) -> int:
    scope[PROBLEM] = error.code, error.detail
    return error.status


def _headers(context: Any) -> dict[str, str]:
    headers = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
    left_s = context.time_remaining()
    if left_s is not None and _TIMEOUT not in headers:
        headers[_TIMEOUT] = repr(max(_AT_LEAST_MS, left_s * 1000))
    return headers


def _host(peer: str) -> str:
    """The address in "ipv4:127.0.0.1:4711" or "ipv6:%5B::1%5D:4711"."""
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")
