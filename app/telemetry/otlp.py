"""Spans on their way to a collector, by OpenTelemetry's SDK, which reads its own variables. Knows no request.

Imported after the fork, and only where traces are wanted: a thread of the SDK sends what has been handed over, so that
nothing waits for a collector. What it has no room for is lost.
"""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.span import TraceState
from opentelemetry.trace.status import Status, StatusCode

from app.telemetry.trace_context import Parent
from app.telemetry.tracing import Span, SpanId, Tracing

_SERVICE = "mixer-serve"
_NS = 1_000_000_000
_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_NOWHERE = Context()  # the span of a request that comes from none
_UNSET = Status(StatusCode.UNSET)
_APART_S = 60.0  # between two lines about the same trouble
_OF_HEADERS = "opentelemetry.util.re"  # logs what it cannot read of the headers, which may be a key
_NO_HEADER = "a header of OTEL_EXPORTER_OTLP_HEADERS or _TRACES_HEADERS is not NAME=VALUE, and is left out"
_SECRETS = re.compile(  # of a URL its user, password and query; of a header that cannot be sent its value
    r"(?<=//)[^/\s]*@|\?\S*|(?<=header value: ).*"
)

log = logging.getLogger("mixer.traces")


class Otlp:
    """What one process sends. `version`: of the service; `worker`: which of its processes this is."""

    def __init__(self, version: str, worker: int) -> None:
        _let_through_seldom(logging.getLogger("opentelemetry"))
        resource = _resource(version, worker)
        self._exporter = OTLPSpanExporter()
        self._processor = BatchSpanProcessor(self._exporter)
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._resource, self._scope = resource, InstrumentationScope(_SERVICE, version)
        self._next_line = 0.0  # about spans that cannot be handed over
        self.tracing = Tracing(self.sampled, self.emit)

    def sampled(self, trace_id: int, parent: Parent | None) -> tuple[str, ...] | None:
        """The tracestate of a request that is to be traced; None for any other."""
        context = _NOWHERE if parent is None else set_span_in_context(NonRecordingSpan(_parent(parent)), _NOWHERE)
        result = self._sampler.should_sample(context, trace_id, "request", SpanKind.SERVER)
        if result.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        return tuple(f"{key}={value}" for key, value in (result.trace_state or {}).items())

    def emit(self, spans: Iterable[Span]) -> None:
        """Hand spans over to the thread that sends them. Raises nothing: answers wait behind it."""
        epoch_ns = time.time_ns() - time.perf_counter_ns()
        try:
            for span in spans:
                self._processor.on_end(self._readable(span, epoch_ns))
        except Exception:
            if (now := time.monotonic()) >= self._next_line:
                self._next_line = now + _APART_S
                log.exception("spans could not be handed over, and are lost; this is a bug")

    async def close(self, timeout_s: float) -> None:
        """Send what is left. What the collector has not taken after `timeout_s` is lost."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:  # a daemon, which keeps no process from its end
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=work, name="last-spans", daemon=True).start()
        try:
            await asyncio.wait_for(sent.wait(), timeout_s)
        except TimeoutError:
            log.warning("the collector did not take the last spans within %g s; they are lost", timeout_s)

    def _readable(self, span: Span, epoch_ns: int) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            context=_context(span.ident),
            parent=None if span.parent is None else _context(span.parent, is_remote=span.parent_is_remote),
            resource=self._resource,
            attributes={name: value for name, value in span.attributes.items() if value is not None},
            links=[Link(_context(link)) for link in span.links],
            kind=SpanKind.SERVER if span.is_server else SpanKind.INTERNAL,
            status=_UNSET if span.failure is None else Status(StatusCode.ERROR, span.failure),
            start_time=epoch_ns + round(span.started * _NS),
            end_time=epoch_ns + round(span.ended * _NS),
            instrumentation_scope=self._scope,
        )


class _Resource(Resource):
    """The SDK looks a resource up for every span that it encodes, and its own writes JSON to be hashed."""

    def __hash__(self) -> int:
        return id(self)


class _Seldom(logging.Handler):
    """Passes one line on a minute, with the number of those that were held back meanwhile, and without secrets."""

    def __init__(self) -> None:
        super().__init__()
        self._next, self._held_back = 0.0, 0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now < self._next:
            self._held_back += 1
            return
        more = f" ({self._held_back} lines like this were held back)" if self._held_back else ""
        self._next, self._held_back = now + _APART_S, 0
        words = _NO_HEADER if record.name == _OF_HEADERS else _SECRETS.sub("", record.getMessage())
        log.log(record.levelno, "%s%s", words, more)


def _let_through_seldom(logger: logging.Logger) -> None:
    """A collector that is away would have a line for each attempt."""
    logger.propagate = False
    logger.handlers = [_Seldom()]
    logger.setLevel(logging.WARNING)


def _resource(version: str, worker: int) -> Resource:
    """What every span says of the process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    said = OTELResourceDetector().detect().attributes
    own: dict[str, str | int] = {
        "service.name": _SERVICE,
        "service.version": version,
        "process.pid": os.getpid(),
        "mixer.worker": worker,
    }
    whole = Resource.create({name: value for name, value in own.items() if name not in said})
    return _Resource(whole.attributes, whole.schema_url)


def _parent(parent: Parent) -> SpanContext:
    flags = _SAMPLED if parent.is_sampled else _NOT_SAMPLED
    return SpanContext(
        parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags, trace_state=_state(parent.state)
    )


def _context(ident: SpanId, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(ident.trace_id, ident.span_id, is_remote, _SAMPLED, _state(ident.state))


def _state(members: Sequence[str]) -> TraceState | None:
    if not members:
        return None
    return TraceState([(key, value) for key, _, value in (member.partition("=") for member in members)])
