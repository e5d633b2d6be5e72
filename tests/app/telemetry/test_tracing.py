"""What is noted of a request, and the spans that are made of it."""

import tracemalloc
from collections.abc import Iterable, Iterator

import pytest

from app.telemetry.trace_context import Parent
from app.telemetry.tracing import (
    CURRENT,
    MOST_LINKS,
    MOST_RUNS,
    RunTracing,
    Span,
    SpanId,
    Trace,
    Tracing,
    Wait,
    ids_of,
)

MODEL = {"name": "colours", "version": "7", "precision": "fp32"}
WAIT = Wait(102.0, 1.0)
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Sent(list[Span]):
    def __call__(self, spans: Iterable[Span]) -> None:
        self.extend(spans)


@pytest.fixture(autouse=True)
def other_tests_belong_to_no_request() -> Iterator[None]:
    yield
    CURRENT.set(None)


@pytest.fixture
def sent() -> Sent:
    return Sent()


def trace_of(sent: Sent, number: int = 1) -> Trace:
    return Trace(SpanId(number, number), None, 100.0, sent)


def test_a_request_that_is_sampled_has_a_trace_and_its_task_knows(sent: Sent) -> None:
    asked: list[tuple[int, Parent | None]] = []

    def sample(trace_id: int, parent: Parent | None) -> tuple[str, ...]:
        asked.append((trace_id, parent))
        return ("a=1",)

    trace = Tracing(sample, sent).begin([(b"traceparent", PARENT)], 100.0)
    assert trace is CURRENT.get()
    assert trace is not None
    assert asked[0][0] == trace.ident.trace_id == int(PARENT[3:35], 16)
    assert ids_of(trace) == (PARENT[3:35].decode(), f"{trace.ident.span_id:016x}")
    assert trace.ident.span_id != int(PARENT[36:52], 16)
    assert trace.ident.state == ("a=1",)


def test_one_that_is_not_has_none_and_its_task_forgets_the_one_before(sent: Sent) -> None:
    CURRENT.set(trace_of(sent))
    assert Tracing(lambda *_: None, sent).begin([], 100.0) is None
    assert CURRENT.get() is None


def test_what_begins_no_trace_is_not_even_asked_about(sent: Sent) -> None:
    asked: list[object] = []

    def sample(*about: object) -> tuple[str, ...]:
        asked.append(about)
        return ()

    tracing = Tracing(sample, sent)
    assert tracing.begin([], 100.0, begins=False) is None
    assert not asked
    assert tracing.begin([(b"traceparent", PARENT)], 100.0, begins=False) is not None


def test_stages_in_order_from_the_first_picture_to_the_last(sent: Sent) -> None:
    trace = trace_of(sent)
    trace.note("respond", 104.0, 0.5)
    trace.decoded(MODEL, 101.0, 0.5)
    trace.decoded(MODEL, 101.25, 1.0)
    trace.ran(None, [Wait(102.0, 1.0), Wait(102.25, 0.75)], 103.0, 0.75)
    longest = trace.end("POST /classify/batch", {"more": 1}, 105.0)
    request, *stages = sent
    assert (request.started, request.ended, request.is_server) == (100.0, 105.0, True)
    assert request.attributes == {"mixer.images": 2, "more": 1} | {f"mixer.model.{name}": MODEL[name] for name in MODEL}
    assert [(one.name, one.started, one.ended) for one in stages] == [
        ("decode", 101.0, 102.25), ("queue", 102.0, 103.0), ("infer", 103.0, 103.75), ("respond", 104.0, 104.5),
    ]  # fmt: skip
    assert [one.attributes.get("mixer.stage.count") for one in stages] == [2, 2, 2, None]
    assert stages[0].attributes["mixer.stage.seconds"] == 1.5
    assert {one.parent for one in stages} == {request.ident}
    assert len({one.ident.span_id for one in sent}) == 5
    assert longest == {"decode": 1.0, "queue": 1.0, "infer": 0.75, "respond": 0.5}


@pytest.mark.parametrize("how", ["refused", "explained"])
def test_exemplars_are_of_pictures_that_metrics_have_observed(how: str, sent: Sent) -> None:
    trace = trace_of(sent)
    trace.note("receive", 100.0, 0.25)
    trace.decoded(MODEL, 101.0, 0.5, explains=how == "explained")
    assert trace.end("POST /", {}, 105.0, is_refused=how == "refused") == {"receive": 0.25}


def test_a_run_and_its_requests_know_each_other(sent: Sent) -> None:
    traces = [trace_of(sent, number) for number in (1, 2)]
    RunTracing(sent, MODEL).ran({trace: [WAIT] for trace in traces}, 103.0, 0.75, {"mixer.batch_size": 3})
    (run,) = sent
    assert (run.name, run.started, run.ended, run.parent, run.is_server) == ("run", 103.0, 103.75, None, False)
    assert run.attributes["mixer.batch_size"] == 3
    assert list(run.links) == [trace.ident for trace in traces]
    assert run.ident.trace_id not in (1, 2)
    assert all(trace.runs == [run.ident] for trace in traces)


def test_a_request_has_a_bounded_number_of_runs_and_a_run_of_links(sent: Sent) -> None:
    runs, one = RunTracing(sent, MODEL), trace_of(sent)
    for _ in range(MOST_RUNS + 10):
        runs.ran({one: [WAIT]}, 103.0, 0.75, {})
    assert len(sent) == len(one.runs) == MOST_RUNS
    one.end("POST /", {}, 105.0)
    assert sent[-1].attributes["mixer.stage.count"] == MOST_RUNS + 10
    sent.clear()
    runs.ran({trace_of(sent, number): [WAIT] for number in range(1, MOST_LINKS + 10)}, 103.0, 0.75, {})
    assert [len(span.links) for span in sent] == [MOST_LINKS]


def test_a_request_of_broken_pictures_keeps_none_of_them(sent: Sent) -> None:
    trace = trace_of(sent)
    tracemalloc.start()
    try:
        for number in range(10_000):
            trace.decoded(MODEL, 101.0 + number, 0.5)
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 10_000
    trace.end("POST /classify/stream", {}, 20_000.0)
    decode = sent[-1]
    assert (decode.started, decode.ended, decode.attributes["mixer.stage.count"]) == (101.0, 10_100.5, 10_000)
