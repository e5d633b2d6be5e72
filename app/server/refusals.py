"""What a connection refuses before it is a request of the application: its answer, its line in the log, its count.

The answer is the same problem+json as any other, and the last one of its connection. Knows nothing of why.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from app.errors import ServiceError
from app.http import problems
from app.http.browser_headers import ANSWER
from app.http.request_log import Refused, log_refusal, request_id_of
from app.telemetry.metrics import Metrics

UNREAD = "-"  # for a method or path that could not be read
_ENDPOINT = "other"
_HEAD = (
    b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\nx-request-id: %b\r\ncontent-length: %d\r\n"
    + b"".join(b"%b: %b\r\n" % header for header in ANSWER)
    + b"connection: close\r\n\r\n"
)


class Head(NamedTuple):
    """What is known of a request that is refused, and whom it is from."""

    method: str = UNREAD
    path: str = UNREAD
    headers: Iterable[tuple[bytes, bytes]] = ()
    client: str = ""


def refused(error: ServiceError, head: Head) -> Refused:
    """How the refusal is told in the log."""
    return Refused(error.status, error.code, error.detail, request_id_of(head.headers))


def answer(error: ServiceError, request_id: str) -> bytes:
    """The whole answer, without a date."""
    body = problems.body(error.status, error.code, error.title, error.detail)
    phrase = HTTPStatus(error.status).phrase.encode()
    return _HEAD % (error.status, phrase, request_id.encode(), len(body)) + body


def record(refusal: Refused, head: Head, metrics: Metrics | None) -> None:
    """Write its line, and count it where there is a place for that."""
    log_refusal(head.method, head.path, refusal, 0.0, head.client)
    if metrics is not None:
        metrics.requests.labels(_ENDPOINT, str(refusal.status)).inc()
        metrics.errors.labels(_ENDPOINT, refusal.code).inc()


def with_headers(answer: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The answer with these headers before its own."""
    status, _, rest = answer.partition(b"\r\n")
    return b"%b\r\n%b%b" % (status, b"".join(b"%b: %b\r\n" % header for header in headers), rest)
