"""Spans as values: one for a request, its stages below it, and one for each run. Knows no protocol and no exporter.

A sampled request has a `Trace`, which notes times that are measured anyway; spans are made of it once the request has
been answered. Seconds are those of time.perf_counter().
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from random import getrandbits
from threading import Lock
from typing import NamedTuple

from app.telemetry.trace_context import Parent, parent_of

Value = str | int | float | bool
Attributes = Mapping[str, Value | None]  # None: not known, and left out

MOST_LINKS = 128  # of a span
MOST_RUNS = 64  # that are told of for one request: a stream may take thousands
STAGES = ("receive", "decode", "queue", "infer", "respond")
_OF_REQUESTS = ("receive", "respond")  # the others are of pictures that got their labels
_NONE: Attributes = {}


class SpanId(NamedTuple):
    """Which span of which trace; state: the members of its tracestate."""

    trace_id: int
    span_id: int
    state: tuple[str, ...] = ()

    def new_span(self) -> "SpanId":
        """Another one of the same trace."""
        return self._replace(span_id=_random_id(64))


class Span(NamedTuple):
    """One span, as it is sent. `failure`: why it counts as failed; None where it does not.

    parent: None for the first of its trace. parent_is_remote: whether another service sent it.
    """

    name: str
    ident: SpanId
    started: float
    ended: float
    parent: SpanId | None = None
    parent_is_remote: bool = False
    is_server: bool = False
    attributes: Attributes = _NONE
    links: Sequence[SpanId] = ()
    failure: str | None = None


Emit = Callable[[Iterable[Span]], None]


@dataclass(slots=True)
class Stage:
    """What a request spent in one stage: from the beginning of the first to the end of the last, where it had several.

    seconds: of all together, those that were in it together counted once; longest: of one; count: of pictures.
    """

    started: float = math.inf
    ended: float = -math.inf
    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def add(self, started: float, seconds: float, count: int = 1) -> None:
        """So many pictures were in it, at the same time."""
        self.started, self.ended = min(self.started, started), max(self.ended, started + seconds)
        self.longest = max(self.longest, seconds)
        self.seconds += seconds
        self.count += count


class Wait(NamedTuple):
    """How long a picture waited for its run: from when on, and for how many seconds, decoding not counted."""

    since: float
    seconds: float


class Trace:
    """What is noted of one sampled request. `ident`: its span's; `parent`: the span it comes from."""

    def __init__(self, ident: SpanId, parent: SpanId | None, started: float, emit: Emit) -> None:
        self.ident = ident
        self.runs: list[SpanId] = []
        self._parent, self._started, self._emit = parent, started, emit
        self._stages: dict[str, Stage] = {}
        self._decode, self._lock = Stage(), Lock()  # which several threads add to
        self._model: Mapping[str, str] | None = None
        self._explains = False

    def decoded(self, model: Mapping[str, str], started: float, seconds: float, *, explains: bool = False) -> None:
        """A picture was decoded for this model. For any thread. `explains`: it is to be explained, not classified."""
        with self._lock:
            self._model, self._explains = model, explains
            self._decode.add(started, seconds)

    def note(self, stage: str, started: float, seconds: float, count: int = 1) -> None:
        """So many pictures were in a stage together."""
        self._stages.setdefault(stage, Stage()).add(started, seconds, count)

    def ran(self, run: SpanId | None, waits: Sequence[Wait], started: float, infer_s: float) -> None:
        """A run that began at that time had pictures of this request, which had waited so."""
        if run is not None:
            self.runs.append(run)
        self.note("queue", min(wait.since for wait in waits), max(wait.seconds for wait in waits), len(waits))
        self.note("infer", started, infer_s, len(waits))

    def end(
        self, name: str, attributes: Attributes, ended: float, failure: str | None = None, *, is_refused: bool = False
    ) -> dict[str, float]:
        """The request has been answered, or nobody waits for that any more: its spans leave.

        is_refused: whether it has no answer, for whatever reason.
        Returns: the seconds of the slowest picture in each stage, as metrics have observed them.
        """
        with self._lock:  # what is decoded later nobody waits for
            decode = replace(self._decode)
        if decode.count:
            self._stages["decode"] = decode
        images = decode.count or None
        server = Span(
            name, self.ident, self._started, ended, self._parent, parent_is_remote=self._parent is not None,
            is_server=True, attributes={"mixer.images": images, **model_attributes(self._model), **attributes},
            failure=failure,
        )  # fmt: skip
        self._emit((server, *(self._child(stage) for stage in STAGES if stage in self._stages)))
        observed = _OF_REQUESTS if is_refused or self._explains else STAGES
        return {stage: self._stages[stage].longest for stage in observed if stage in self._stages}

    def _child(self, name: str) -> Span:
        stage = self._stages[name]
        more: Attributes = {"mixer.stage.count": stage.count, "mixer.stage.seconds": stage.seconds}
        attributes = more if stage.count > 1 else _NONE
        links = self.runs if name == "infer" else ()
        return Span(
            name, self.ident.new_span(), stage.started, stage.ended, self.ident, attributes=attributes, links=links
        )


CURRENT: ContextVar[Trace | None] = ContextVar("mixer_trace", default=None)  # of the request that a task works for

Sample = Callable[[int, Parent | None], tuple[str, ...] | None]


class Tracing:
    """Which requests are traced, and where their spans go.

    `sample`: the tracestate of a request that is to be traced, by its trace id and the span it comes from; else None.
    """

    def __init__(self, sample: Sample, emit: Emit) -> None:
        self._sample, self.emit = sample, emit

    def begin(self, headers: Iterable[tuple[bytes, bytes]], started: float, *, begins: bool = True) -> Trace | None:
        """The trace of a request that has begun, for this task and those that it makes; None where it has none.

        begins: whether one that comes from no span may have one.
        """
        parent = parent_of(headers)
        trace_id = _random_id(128) if parent is None else parent.trace_id
        state = self._sample(trace_id, parent) if begins or parent is not None else None
        trace = None
        if state is not None:
            sent_by = None if parent is None else SpanId(parent.trace_id, parent.span_id, parent.state)
            trace = Trace(SpanId(trace_id, _random_id(64), state), sent_by, started, self.emit)
        CURRENT.set(trace)
        return trace


class RunTracing(NamedTuple):
    """Tells of the runs of one model that sampled requests had a part in."""

    emit: Emit
    model: Mapping[str, str]

    def ran(
        self,
        waits: Mapping[Trace, Sequence[Wait]],
        started: float,
        infer_s: float,
        attributes: Attributes,
        failure: str | None = None,
    ) -> None:
        """A run has ended, with pictures of these requests, which had waited so."""
        told = [trace for trace in waits if len(trace.runs) < MOST_RUNS][:MOST_LINKS]
        run = SpanId(_random_id(128), _random_id(64)) if told else None
        for trace, own in waits.items():
            trace.ran(run if trace in told else None, own, started, infer_s)
        if run is not None:
            links = [trace.ident for trace in told]
            more = {**model_attributes(self.model), **attributes}
            self.emit((Span("run", run, started, started + infer_s, attributes=more, links=links, failure=failure),))


def model_attributes(named: Mapping[str, str] | None) -> Attributes:
    """What spans say of a model: its name, version and precision."""
    return {} if named is None else {f"mixer.model.{what}": value for what, value in named.items()}


def ids_of(trace: Trace) -> tuple[str, str]:
    """The ids of its trace and of its span, as the log and W3C write them."""
    return f"{trace.ident.trace_id:032x}", f"{trace.ident.span_id:016x}"


def _random_id(bits: int) -> int:
    return getrandbits(bits) or 1  # 0 stands for none
