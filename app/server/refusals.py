"""What is refused before it is a request of the application: its answer, its line in the log, its count.

The answer is the same problem+json as any other. Knows nothing of why.
"""

import time
from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.dialects.forms import form_of
from app.errors import ServiceError
from app.http import problems
from app.http.browser_headers import ANSWER
from app.http.request_log import REQUEST_ID, Refused, log_refusal, quoted, request_id_of
from app.http.request_span import described
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import CURRENT, Trace

UNREAD = "-"  # for a method or path that could not be read
_ENDPOINT = "other"
_ANSWER = b"".join(b"%b: %b\r\n" % header for header in ANSWER)
_CLOSE = b"connection: close\r\n"


class _Route(NamedTuple):
    path: str


class Head(NamedTuple):
    """What is known of a request that is refused, and whom it is from."""

    method: str = UNREAD
    path: str = UNREAD
    headers: Iterable[tuple[bytes, bytes]] = ()
    client: str = ""


def head_of(protocol: HttpToolsProtocol) -> Head:
    """The head of the request that was read last."""
    method, path = protocol.parser.get_method().decode(), protocol.url.partition(b"?")[0].decode("latin-1")
    return Head(method, path, tuple(protocol.headers), peer_of(protocol))


def peer_of(protocol: HttpToolsProtocol) -> str:
    """The address of its client; empty where it has none."""
    return protocol.client[0] if protocol.client else ""


def refused(error: ServiceError, head: Head) -> Refused:
    """How the refusal is told in the log."""
    return Refused(error.status, error.code, error.detail, request_id_of(head.headers))


def answer(error: ServiceError, request_id: str, path: str = UNREAD, *, keep_alive: bool = False) -> bytes:
    """The whole answer, without a date; the last one of its connection where that is not kept.

    It is put together here, as a response of Starlette takes a third of the time of a refusal.
    """
    form, problem = form_of(path), problems.problem_of(error)
    status, body = problems.status_and_body(problem, form)
    return b"%b%bcontent-length: %d\r\ncontent-type: %b\r\n%b: %b\r\n%b%b\r\n%b" % (
        _status_line(status),
        b"".join([f"{name.lower()}: {value}\r\n".encode("latin-1") for name, value in problem.headers.items()]),
        len(body),
        form.media_type.encode("latin-1"),
        REQUEST_ID,
        request_id.encode(),
        _ANSWER,
        b"" if keep_alive else _CLOSE,
        body,
    )


@cache
def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())


def record(
    refusal: Refused, head: Head, metrics: Metrics | None, endpoint: str = _ENDPOINT, duration_s: float = 0.0
) -> None:
    """Write its line, and count it if there are metrics."""
    log_refusal(head.method, head.path, refusal, duration_s, head.client)
    if metrics is not None:
        metrics.answered(endpoint, refusal.status, duration_s if endpoint != _ENDPOINT else None, refusal.code)


def end_trace(trace: Trace, refusal: Refused, head: Head, endpoint: str, scope: Scope) -> None:
    """Let the one span of a refused request go."""
    asked = {**scope, "method": head.method, "path": head.path, "route": _Route(endpoint)}
    name, attributes, failure = described(asked, quoted(head.path), refusal.status, refusal.code)
    own = {"mixer.request.id": refusal.request_id, "mixer.problem.code": refusal.code}
    trace.end(name, {**attributes, **own}, time.perf_counter(), failure)
    CURRENT.set(None)  # what else this connection brings belongs to no request yet


def with_headers(answer: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The answer with these headers before its own."""
    status, _, rest = answer.partition(b"\r\n")
    return b"%b\r\n%b%b" % (status, b"".join(b"%b: %b\r\n" % header for header in headers), rest)
