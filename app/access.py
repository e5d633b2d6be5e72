"""A request from the outside: its id, its timing, its metrics, its one line in the log. An ASGI middleware."""

import logging
import re
import time
from collections.abc import Iterable
from random import getrandbits
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ClientGone, forget_frames
from app.headers import ANSWER, IN_SCOPE
from app.metrics import Metrics
from app.problems import internal_error

REQUEST_ID = b"x-request-id"
CLIENT_GONE_STATUS = 499  # nginx's number; it is logged and counted, nobody receives it
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PATH_CHARACTERS = 256  # of a path in the log, before they are quoted
_LINE = "%(method)s %(path)s %(status)s %(duration_ms).1fms id=%(request_id)s"
_LINE_WITH_KEY = _LINE + " key=%(key)s"

log = logging.getLogger("mixer.access")


class Timing:
    """Where one request's time went, and whose it was. Stages in seconds, in the order they happened."""

    key: str | None = None  # the name of the API key that let it in

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.stages: dict[str, float] = {}
        self.batch_size: int | None = None
        self.answered: float | None = None

    def received(self) -> None:
        """The body has arrived."""
        self.stages["receive"] = time.perf_counter() - self.started

    def header(self) -> str:
        """The value of Server-Timing, in milliseconds."""
        parts = [f"{stage};dur={seconds * 1000:.2f}" for stage, seconds in self.stages.items()]
        if self.batch_size is not None:
            parts.append(f'batch;desc="{self.batch_size}"')
        parts.append(f"total;dur={(time.perf_counter() - self.started) * 1000:.2f}")
        return ", ".join(parts)


def timing_of(scope: Scope) -> Timing:
    """The timing of the request with this scope."""
    timing: Timing = scope["mixer.timing"]
    return timing


class Access:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, count it and log it once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timing = scope["mixer.timing"] = Timing()
        request_id = request_id_of(scope["headers"])
        status = CLIENT_GONE_STATUS

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                timing.answered = time.perf_counter()
                message["headers"] = [
                    *message["headers"],
                    (REQUEST_ID, request_id.encode()),
                    (b"server-timing", timing.header().encode()),
                    *scope.get(IN_SCOPE, ANSWER),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientGone as gone:
            forget_frames(gone)
            if "receive" not in timing.stages:  # later stages have counted it themselves
                self._metrics.dropped("receive", "client_gone")
        except Exception as error:
            log.exception("request failed", extra={"request_id": request_id})
            forget_frames(error)
            if status == CLIENT_GONE_STATUS:
                await internal_error()(scope, receive, send_with_headers)
        finally:
            self._finish(scope, timing, request_id, status)

    def _finish(self, scope: Scope, timing: Timing, request_id: str, status: int) -> None:
        now = time.perf_counter()
        endpoint = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(endpoint, str(status)).inc()
        self._metrics.request_seconds.labels(endpoint).observe(now - timing.started)
        if timing.key is not None:
            self._metrics.key_requests.labels(timing.key).inc()
        if timing.answered is not None and timing.stages:
            self._metrics.stage_seconds.labels("respond").observe(now - timing.answered)
        if "receive" in timing.stages:
            self._metrics.stage_seconds.labels("receive").observe(timing.stages["receive"])
        if log.isEnabledFor(logging.INFO):
            fields = _fields(scope, timing, request_id, status, now)
            log.info(_LINE if timing.key is None else _LINE_WITH_KEY, fields, extra=fields)


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id where it is harmless, else a new one."""
    offered = next((value.decode("latin-1") for name, value in headers if name == REQUEST_ID), "")
    return offered if offered and _ACCEPTABLE_ID.fullmatch(offered) else f"{getrandbits(128):032x}"


def _fields(scope: Scope, timing: Timing, request_id: str, status: int, now: float) -> dict[str, Any]:
    client = scope.get("client")
    return {
        "method": scope["method"],
        "path": quote(scope["path"][:_PATH_CHARACTERS]),  # no client can write a line break into the log
        "status": status,
        "duration_ms": round((now - timing.started) * 1000, 2),
        "request_id": request_id,
        "client": client[0] if client else "",
        "batch_size": timing.batch_size,
        "key": timing.key,
    }
