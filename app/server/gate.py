"""Lets requests for pictures in, or refuses them, at their head. Knows nothing of pictures.

A refusal under overload must cost little: no body is read, no task made, nothing parsed that need not be.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from starlette.types import Scope

from app.errors import NotReady, QueueFull
from app.http.dispatcher import HELD
from app.http.request_log import Refused
from app.server import refusals
from app.server.refusals import Head
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing

_ENDPOINT, _BATCH = "/classify", "/classify/batch"
_TIMEOUT, _EXPECT = b"x-request-timeout-ms", b"expect"
_LAG_HOLDS_S = 1.0
_MOST_LAG = 0.2  # of the time for an answer


class Gate:
    """In front of POST /classify, and of the other requests about pictures.

    `expect` takes a permit for an image that is to be answered by a time of the event loop's clock, or raises
    QueueFull; the permit is for the application, in the scope. A turn of the event loop is part of the time that a
    request has: it waits for one before it is read. Without `expect` the gate stands open. `root_path`: what the paths
    may have before them. `pattern_of`: the endpoint of a method and a path, if it is one about pictures. `tracing`:
    takes the spans of refusals, where requests are traced.
    """

    def __init__(
        self,
        expect: Callable[[float], object] | None,
        metrics: Metrics,
        timeout_s: float,
        root_path: str = "",
        pattern_of: Callable[[str, str], str | None] = lambda method, path: None,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._expect = expect
        self._root_path, self._pattern_of = root_path, pattern_of
        self._urls = {f"{before}{_ENDPOINT}".encode(): _ENDPOINT for before in ("", root_path)}
        self._paths = {before + path for before in ("", root_path) for path in (_ENDPOINT, _BATCH)}
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._is_turn_measured = False
        self._lag_s = self._lag_until = 0.0  # what a turn of the event loop took, the longest one of late

    def reject_early(self, method: bytes, url: bytes, scope: Scope, *, keep_alive: bool) -> bytes | None:
        """The whole answer to a request that is refused; None where it may come in.

        `keep_alive`: whether its client would send another request on the same connection.
        """
        path = url.partition(b"?")[0]
        if self._expect is None or method != b"POST" or (endpoint := self._urls.get(path) or self._other(path)) is None:
            return None
        started = time.perf_counter()
        timeout_s = self._timeout_s
        for name, value in scope["headers"]:
            if name == _TIMEOUT:
                timeout_s = min(timeout_s, _timeout_s(value))
            elif name == _EXPECT:
                keep_alive = False  # its client waits to be asked for a body, and never will be: no request follows
        if started < self._lag_until:
            timeout_s -= min(self._lag_s, timeout_s * _MOST_LAG)
        try:
            permit = self._expect(asyncio.get_running_loop().time() + timeout_s)
        except QueueFull as error:
            head = Head("POST", path.decode("latin-1"), scope["headers"], client_of(scope))
            request_id = self._record(refusals.refused(error, head), head, endpoint, started, scope)
            return refusals.answer(error, request_id, head.path.removeprefix(self._root_path), keep_alive=keep_alive)
        except NotReady:
            return None  # the application says so
        if permit is not None:
            scope[HELD] = permit
        if not self._is_turn_measured:
            self._is_turn_measured = True
            asyncio.get_running_loop().call_soon(self._measure_turn, started)
        return None

    def count_abandoned(self, scopes: Iterable[Scope]) -> None:
        """These requests were sent ahead of an answer, and their client went before they could come in."""
        for scope in scopes:
            path = scope["path"]
            if scope["method"] == "POST" and (path in self._paths or self._other(path.encode()) is not None):
                self._metrics.dropped("receive", "client_gone")

    def _measure_turn(self, since: float) -> None:
        self._is_turn_measured = False
        now = time.perf_counter()
        if now - since >= self._lag_s or now >= self._lag_until:
            self._lag_s, self._lag_until = now - since, now + _LAG_HOLDS_S

    def _other(self, path: bytes) -> str | None:
        """The endpoint about pictures that is no /classify. How many a batch has, its body tells first."""
        endpoint = self._pattern_of("POST", path.decode("latin-1").removeprefix(self._root_path))
        return None if endpoint == _BATCH else endpoint

    def _record(self, refused: Refused, head: Head, endpoint: str, started: float, scope: Scope) -> str:
        """Log, count and trace a refusal; its request's id."""
        trace = None if self._tracing is None else self._tracing.begin(head.headers, started)
        refusals.record(refused, head, self._metrics, endpoint, time.perf_counter() - started)
        if trace is not None:
            refusals.end_trace(trace, refused, head, endpoint, scope)
        return refused.request_id


def client_of(scope: Any) -> str:
    """The client's address."""
    client = scope.get("client")
    return client[0] if client else ""


def _timeout_s(said: bytes) -> float:
    """The client's own limit; infinite where it is no such number, which the application refuses."""
    try:
        timeout_s = float(said) / 1000
    except ValueError:
        return math.inf
    return timeout_s if timeout_s > 0 else math.inf
