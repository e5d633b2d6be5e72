"""Refuses requests for pictures at their head while there is no room or no time for them. Knows nothing of pictures.

Whoever has too much to do must say so for little: no body is read, no task made, nothing parsed that need not be. A
refusal here costs a sixth of one by the application.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence

from starlette.types import Scope

from app.errors import QueueFull
from app.http import problems
from app.http.browser_headers import ANSWER
from app.http.request_log import Refused, log_refusal, request_id_of
from app.telemetry.metrics import Metrics

_ENDPOINT = "/classify"
_FOR_IMAGES = (_ENDPOINT, "/classify/batch")
_TIMEOUT, _EXPECT = b"x-request-timeout-ms", b"expect"
_LAG_HOLDS_S = 1.0
_MOST_LAG = 0.2  # of the time for an answer
_HEAD = (
    b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\nretry-after: %d\r\n"
    b"x-request-id: %b\r\ncontent-length: %d\r\n"
) + b"".join(b"%b: %b\r\n" % header for header in ANSWER)

Headers = Sequence[tuple[bytes, bytes]]


class Gate:
    """In front of POST /classify.

    `refusal` says why a picture cannot be answered within so many seconds behind so many others, if so. Those are who
    was let in during the same turn of the event loop, and takes a place only when all that has arrived is read. Such a
    turn is part of the time that a request has: it waits for one before it is read. Without `refusal` the gate stands
    open. `root_path`: what the paths may have before them.
    """

    def __init__(
        self,
        refusal: Callable[[float, int], QueueFull | None] | None,
        metrics: Metrics,
        timeout_s: float,
        root_path: str = "",
    ) -> None:
        self._refusal = refusal
        self._urls = {f"{before}{_ENDPOINT}".encode() for before in ("", root_path)}
        self._paths = {before + path for before in ("", root_path) for path in _FOR_IMAGES}
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._let_in = 0
        self._lag_s = self._lag_until = 0.0  # what a turn of the event loop took, the longest one of late

    def reject_early(
        self, method: bytes, url: bytes, headers: Headers, *, keep_alive: bool, client: str = ""
    ) -> bytes | None:
        """The whole answer to a request that is refused, without a date; None where it may come in.

        `keep_alive`: whether its client would send another request on the same connection. `client`: its address.
        """
        if self._refusal is None or url.partition(b"?")[0] not in self._urls or method != b"POST":
            return None
        started = time.perf_counter()
        timeout_s = self._timeout_s
        for name, value in headers:
            if name == _TIMEOUT:
                timeout_s = min(timeout_s, _timeout_s(value))
            elif name == _EXPECT:
                keep_alive = False  # its client waits to be asked for a body, and never will be: no request follows
        if started < self._lag_until:
            timeout_s -= min(self._lag_s, timeout_s * _MOST_LAG)
        error = self._refusal(timeout_s, self._let_in)
        if error is not None:
            return self._answer(error, headers, started, client, keep_alive=keep_alive)
        self._let_one_in(started)
        return None

    def count_abandoned(self, scopes: Iterable[Scope]) -> None:
        """These requests were sent ahead of an answer, and their client went before they could come in."""
        for scope in scopes:
            if scope["path"] in self._paths and scope["method"] == "POST":
                self._metrics.dropped("receive", "client_gone")

    def _let_one_in(self, now: float) -> None:
        if not self._let_in:
            asyncio.get_running_loop().call_soon(self._all_are_in, now)
        self._let_in += 1

    def _all_are_in(self, since: float) -> None:
        self._let_in = 0
        now = time.perf_counter()
        if now - since >= self._lag_s or now >= self._lag_until:
            self._lag_s, self._lag_until = now - since, now + _LAG_HOLDS_S

    def _answer(self, error: QueueFull, headers: Headers, started: float, client: str, *, keep_alive: bool) -> bytes:
        metrics = self._metrics
        metrics.rejected("queue_full", 1)
        metrics.lost(error.code)
        metrics.requests.labels(_ENDPOINT, "429").inc()
        metrics.request_seconds.labels(_ENDPOINT).observe(time.perf_counter() - started)
        request_id = request_id_of(headers)
        metrics.errors.labels(_ENDPOINT, error.code).inc()
        refused = Refused(error.status, error.code, error.detail, request_id)
        log_refusal("POST", _ENDPOINT, refused, time.perf_counter() - started, client)
        body = problems.body(error.status, error.code, error.title, error.detail)
        ending = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
        return _HEAD % (error.retry_after_s, request_id.encode(), len(body)) + ending + body


def _timeout_s(said: bytes) -> float:
    """The client's own limit; infinite where it is no such number, which the application refuses."""
    try:
        timeout_s = float(said) / 1000
    except ValueError:
        return math.inf
    return timeout_s if timeout_s > 0 else math.inf
