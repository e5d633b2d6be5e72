"""A request from the outside: its id, its timing, its metrics, its one line in the log. An ASGI middleware.

Those that are refused before they come in (server/gate.py, server/refusals.py) have the same line.
"""

import json
import logging
import re
import time
from collections.abc import Iterable, Mapping
from random import getrandbits
from typing import Any, NamedTuple
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ClientGone, forget_frames
from app.http.browser_headers import ANSWER, IN_SCOPE
from app.http.problems import PROBLEM, PROBLEM_JSON, internal_error
from app.http.request_span import CLIENT_GONE_STATUS, PROBES, SPAN, Describe, described
from app.telemetry.line_buffer import write_info
from app.telemetry.logs import printable
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Trace, Tracing

REQUEST_ID = b"x-request-id"
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
TIMING = "mixer.timing"  # in the scope of every request
REFUSED = "mixer.refused"  # in the scope of a request whose connection has answered it: a Refused
_FAILED = 400  # and whatever is above
_UNKNOWN_CODE = "http_error"
_PATH_CHARACTERS, _QUOTED_CHARACTERS = 256, 1024  # of a path in the log, before and after they are quoted
_DETAIL_CHARACTERS = 256  # of a detail there
_LINE = "%(method)s %(path)s %(status)s %(duration_ms).1fms id=%(request_id)s"
_WITH_KEY, _WITH_ERRORS, _WITH_REASON = " key=%(key)s", " errors=%(counts)s", " code=%(code)s detail=%(quoted)s"

log = logging.getLogger("mixer.access")


class Timing:
    """Where one request's time went, and whose it was. Stages in seconds, in the order they happened."""

    key: str | None = None  # the name of the API key that let it in
    request_id: str = ""  # as it is answered and logged
    errors: Mapping[str, int] | None = None  # of a batch that is answered: how many entries failed, by code
    trace: Trace | None = None  # of a request that is sampled

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


class Refused(NamedTuple):
    """What a connection has answered itself, before the application."""

    status: int
    code: str
    detail: str
    request_id: str


def timing_of(scope: Scope) -> Timing:
    """The timing of the request with this scope."""
    timing: Timing = scope[TIMING]
    return timing


class Access:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever happens, count it and log it once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        timing = scope[TIMING] = Timing()
        request_id = timing.request_id = request_id_of(scope["headers"])
        status = CLIENT_GONE_STATUS
        if self._tracing is not None:
            begins = scope["path"] not in PROBES
            timing.trace = self._tracing.begin(scope["headers"], timing.started, begins=begins)

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
                form = getattr(scope.get("route"), "form", PROBLEM_JSON)
                await internal_error(form)(scope, receive, send_with_headers)
        finally:
            finish(self._metrics, scope, request_id, status)


def finish(metrics: Metrics, scope: Scope, request_id: str, status: int) -> None:
    """A request has been answered, or nobody waits for that any more: count it, and log it."""
    timing = timing_of(scope)
    now = time.perf_counter()
    endpoint = getattr(scope.get("route"), "path", "other")
    code = detail = None
    if status >= _FAILED:
        status, code, detail, request_id = _failure(scope, status, request_id)
    stages = {"receive": timing.stages["receive"]} if "receive" in timing.stages else {}
    if timing.answered is not None and timing.stages:
        stages["respond"] = now - timing.answered
    metrics.answered(endpoint, status, now - timing.started, code, stages)
    if timing.key is not None:
        metrics.key_requests.labels(timing.key).inc()
    if timing.trace is not None:
        longest = _end_trace(timing.trace, scope, request_id, status, code, now)
        metrics.exemplify(endpoint, now - timing.started, longest, timing.trace.ident)
    if log.isEnabledFor(logging.INFO):
        path = endpoint if scope["path"] == endpoint else quoted(scope["path"])
        fields = _fields(scope, path, timing, request_id, status, now)
        if code is not None:
            fields["code"], fields["detail"] = code, detail
        _write(fields)


def _end_trace(
    trace: Trace, scope: Scope, request_id: str, status: int, code: str | None, now: float
) -> Mapping[str, float]:
    """Let the spans of a request go. Returns the seconds of its slowest picture in each stage."""
    timing = timing_of(scope)
    if "receive" in timing.stages:
        trace.note("receive", timing.started, timing.stages["receive"])
    if timing.answered is not None and timing.stages:
        trace.note("respond", timing.answered, now - timing.answered)
    describe: Describe = scope.get(SPAN, described)
    name, attributes, failure = describe(scope, quoted(scope["path"]), status, code)
    own = {
        "mixer.request.id": request_id,
        "mixer.problem.code": code,
        "mixer.key": timing.key,
        "mixer.batch_size": timing.batch_size,
        "mixer.images.failed": sum(timing.errors.values()) if timing.errors else None,
    }
    return trace.end(name, {**attributes, **own}, now, failure, is_refused=code is not None)


def log_refusal(method: str, path: str, refused: Refused, duration_s: float, client: str) -> None:
    """The line of a request that the application has not seen."""
    if log.isEnabledFor(logging.INFO):
        _write(
            {
                "method": method,
                "path": quoted(path),
                "status": refused.status,
                "duration_ms": round(duration_s * 1000, 2),
                "request_id": refused.request_id,
                "client": client,
                "code": refused.code,
                "detail": refused.detail,
            }
        )


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id where it is harmless, else a new one."""
    for name, value in headers:
        if name == REQUEST_ID:
            offered = value.decode("latin-1")
            if _ACCEPTABLE_ID.fullmatch(offered):
                return offered
            break
    return f"{getrandbits(128):032x}"


def _failure(scope: Scope, status: int, request_id: str) -> Refused:
    """Why a request failed: by the connection's word, if that was the last one, or by its own answer."""
    refused: Refused | None = scope.get(REFUSED)
    if refused is not None and status == CLIENT_GONE_STATUS:
        return refused
    gone = ("client_gone", "The client hung up before its answer.")
    code, detail = scope.get(PROBLEM) or (gone if status == CLIENT_GONE_STATUS else (_UNKNOWN_CODE, ""))
    return Refused(status, code, detail, request_id)


def _write(fields: dict[str, Any]) -> None:
    """One line. As text, the detail stands last and in quotes; the client may have chosen parts of it."""
    line, more = _LINE, {}
    if fields.get("key") is not None:
        line += _WITH_KEY
    if "errors" in fields:
        line += _WITH_ERRORS
        more["counts"] = ",".join(f"{code}:{count}" for code, count in fields["errors"].items())
    if "code" in fields:
        line += _WITH_REASON
        fields["detail"] = printable(fields["detail"], _DETAIL_CHARACTERS)
        more["quoted"] = json.dumps(fields["detail"], ensure_ascii=False)
    values = fields | more if more else fields
    if not write_info(log, line % values, fields):
        log.info(line, values, extra=fields)


def quoted(path: str) -> str:
    """No client can write a line break into the log."""
    return quote(path[:_PATH_CHARACTERS])[:_QUOTED_CHARACTERS]


def _fields(scope: Scope, path: str, timing: Timing, request_id: str, status: int, now: float) -> dict[str, Any]:
    client = scope.get("client")
    fields = {
        "method": scope["method"],
        "path": path,
        "status": status,
        "duration_ms": round((now - timing.started) * 1000, 2),
        "request_id": request_id,
        "client": client[0] if client else "",
        "batch_size": timing.batch_size,
        "key": timing.key,
    }
    if timing.errors:
        fields["errors"] = timing.errors
    return fields
