"""The spans that a collector gets of requests, from the head of each to its last byte, and of the runs they share."""

import asyncio
import re
import signal
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from app.errors import InferenceFailed
from tests.app.asgi import AsgiCall
from tests.app.collector import Collector, collecting, ms_of, values_of
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import FakeSession, GatedSession, engine_of, means_of_colors
from tests.app.in_process import Serve
from tests.app.servers import PATIENCE_S, Server, free_port

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
STAGES = ("receive", "decode", "queue", "infer", "respond")
SERVER, INTERNAL, ERROR, UNSET = 2, 1, 2, 0
SPEC = color_spec(canary=None)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """What the service of this test sends its spans to, ten times a second."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield collector


def traced(number: int, flags: str = "01") -> dict[str, str]:
    """The header of a request of a trace of its own."""
    return {"traceparent": f"00-{number:032x}-{number:016x}-{flags}"}


# --- what a request looks like ---


async def test_a_request_has_its_parent_its_stages_and_what_is_known_of_it(serve: Serve, collector: Collector) -> None:
    headers = SAMPLED | {"tracestate": "shop=1,bank=2", "x-request-id": "mine", "host": "example.org:8080"}
    async with serve(engine_of(FakeSession(SPEC, means_of_colors), SPEC)) as service:
        answer = await service.http.post("/classify?top_k=2", content=image(RED), headers=headers)
    spans = collector.of_trace(TRACE)
    assert set(spans) == {"POST /classify", *STAGES}
    request = spans["POST /classify"]
    assert (request.parent_span_id.hex(), request.kind, request.status.code) == (SPAN, SERVER, UNSET)
    assert all(one.parent_span_id == request.span_id and one.kind == INTERNAL for one in map(spans.get, STAGES))
    assert {one.trace_state for one in spans.values()} == {"shop=1,bank=2"}
    values = values_of(request)
    assert values.pop("client.address")
    assert values.pop("network.protocol.version") == "1.1"
    assert values == {
        "http.request.method": "POST",
        "http.route": "/classify",
        "http.response.status_code": 200,
        "url.path": "/classify",
        "url.scheme": "http",
        "server.address": "example.org",
        "server.port": 8080,
        "mixer.model.name": SPEC.name,
        "mixer.model.version": SPEC.version,
        "mixer.model.precision": "fp32",
        "mixer.images": 1,
        "mixer.batch_size": 1,
        "mixer.request.id": "mine",
    }
    assert "traceparent" not in answer.headers


async def test_the_stages_are_as_long_as_server_timing_says_and_follow_each_other(
    serve: Serve, collector: Collector
) -> None:
    async with serve() as service:
        answer = await service.http.post("/classify", content=image(RED), headers=SAMPLED)
    spans = collector.of_trace(TRACE)
    told = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["server-timing"])}
    for stage in STAGES[:4]:
        assert ms_of(spans[stage]) == pytest.approx(told[stage], abs=0.0051), stage
    request = spans["POST /classify"]
    assert ms_of(request) >= told["total"] - 0.0051
    ends = [request.start_time_unix_nano]
    for span in (spans[stage] for stage in ("receive", "queue", "infer", "respond")):
        assert span.start_time_unix_nano >= ends[-1] - 1000, span.name  # a clock is read for each
        ends.append(span.end_time_unix_nano)
    assert ends[-1] <= request.end_time_unix_nano + 1000
    waits, decode, infer = (spans[stage] for stage in ("queue", "decode", "infer"))
    assert waits.start_time_unix_nano - 1000 <= decode.start_time_unix_nano  # once it has waited, just before it runs
    assert decode.end_time_unix_nano <= infer.start_time_unix_nano + 1000
    assert abs(time.time_ns() - request.end_time_unix_nano) < PATIENCE_S * 1e9


async def test_pictures_of_one_request_have_one_span_a_stage_that_counts_them(
    serve: Serve, collector: Collector
) -> None:
    files = [("file", ("one.png", image(color))) for color in (RED, GREEN, BLUE)]
    files.append(("file", ("no.png", b"no picture")))
    async with serve() as service:
        await service.http.post("/classify/batch", files=files, headers=SAMPLED)
    spans = collector.of_trace(TRACE)
    assert set(spans) == {"POST /classify/batch", *STAGES}
    assert values_of(spans["POST /classify/batch"])["mixer.images"] == 4
    assert values_of(spans["POST /classify/batch"])["mixer.images.failed"] == 1
    assert values_of(spans["decode"])["mixer.stage.count"] == 4
    assert values_of(spans["infer"])["mixer.stage.count"] == values_of(spans["queue"])["mixer.stage.count"] == 3
    assert values_of(spans["decode"])["mixer.stage.seconds"] > 0


async def test_an_explanation_has_the_same_stages_and_a_bounded_number_of_runs(
    serve: Serve, collector: Collector
) -> None:
    async with serve() as service:
        await service.http.post("/explain", content=image(RED), headers=SAMPLED)
        answer = await service.http.get("/metrics", headers={"accept": "application/openmetrics-text"})
    spans = collector.of_trace(TRACE)
    assert set(spans) == {"POST /explain", *STAGES}
    runs = [span for span in collector.spans if span.name == "run"]
    assert 1 <= len(spans["infer"].links) == len(runs) <= 64
    assert {values_of(run)["mixer.background"] for run in runs} == {True}
    assert not [line for line in answer.text.splitlines() if TRACE in line and 'stage="infer"' in line]


async def test_a_stream_has_one_span_a_stage_however_many_pictures_it_has(serve: Serve, collector: Collector) -> None:
    files = [("file", (f"{number}.png", image(RED))) for number in range(90)]
    async with serve(max_batch_size=1) as service:
        answer = await service.http.post("/classify/stream", files=files, headers=SAMPLED)
    assert answer.text.count('"predictions"') == 90
    spans = collector.of_trace(TRACE)
    assert set(spans) == {"POST /classify/stream", "decode", "queue", "infer"}
    assert values_of(spans["infer"])["mixer.stage.count"] == 90
    assert len(spans["infer"].links) == len([span for span in collector.spans if span.name == "run"]) == 64


async def test_another_protocol_has_its_own_route(serve: Serve, collector: Collector) -> None:
    async with serve() as service:
        await service.http.post("/predictions/colours0", content=image(RED), headers=SAMPLED)
    assert set(collector.of_trace(TRACE)) == {"POST /predictions/{model}", *STAGES}


async def test_a_path_that_is_not_served_has_no_route(serve: Serve, collector: Collector) -> None:
    async with serve() as service:
        await service.http.get("/nothing", headers=traced(1))
        await service.http.request("BREW", "/nothing", headers=traced(2))
    missing, brewed = (values_of(*collector.of_trace(f"{number:032x}").values()) for number in (1, 2))
    assert set(collector.of_trace(f"{1:032x}")) == {"GET"}
    assert set(collector.of_trace(f"{2:032x}")) == {"HTTP"}
    assert "http.route" not in missing
    assert (missing["http.response.status_code"], missing["mixer.problem.code"]) == (404, "not_found")
    assert (brewed["http.request.method"], brewed["http.request.method_original"]) == ("_OTHER", "BREW")


async def test_keys_are_told_by_name_and_neither_queries_nor_programs_are(serve: Serve, collector: Collector) -> None:
    headers = SAMPLED | {"authorization": "Bearer 0123456789abcdef", "user-agent": "secret-agent"}
    async with serve(api_keys="shop:0123456789abcdef") as service:
        await service.http.post("/classify?model=secret-query", content=image(RED), headers=headers)
        await service.http.post("/classify", content=image(RED), headers=headers)
    request = [span for span in collector.spans if span.name == "POST /classify"]
    assert [values_of(span)["mixer.key"] for span in request] == ["shop", "shop"]
    words = "".join(str(span) for span in collector.spans)
    assert "secret" not in words
    assert "0123456789abcdef" not in words


# --- runs ---


async def test_a_run_is_a_span_with_links_to_the_sampled_requests_in_it(serve: Serve, collector: Collector) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), max_batch_size=4) as service:

        def ask(headers: dict[str, str]) -> "asyncio.Task[Any]":
            return asyncio.create_task(service.http.post("/classify", content=image(RED), headers=headers))

        first = ask(traced(1))
        await session.entered.wait()
        others = [ask(traced(2)), ask(traced(3, "00")), ask(traced(4))]
        await service.metrics.until(lambda: service.metrics.waiting == 3)
        session.open_gate()
        await asyncio.gather(first, *others)
    runs = [span for span in collector.spans if span.name == "run"]
    requests = {number: collector.of_trace(f"{number:032x}") for number in (1, 2, 4)}
    assert not [span for span in collector.spans if span.trace_id.hex() == f"{3:032x}"]
    linked = [sorted(int(link.trace_id.hex(), 16) for link in run.links) for run in runs]
    assert linked == [[1], [2, 4]]
    for run in runs:
        for link in run.links:
            spans = requests[int(link.trace_id.hex(), 16)]
            assert link.span_id == spans["POST /classify"].span_id
            assert [back.span_id for back in spans["infer"].links] == [run.span_id]
            assert (spans["infer"].start_time_unix_nano, ms_of(spans["infer"])) == (
                pytest.approx(run.start_time_unix_nano, abs=1e6), pytest.approx(ms_of(run)),
            )  # fmt: skip
    assert [values_of(run)["mixer.batch_size"] for run in runs] == [1, 3]
    assert values_of(runs[0]) == {
        "mixer.batch_size": 1,
        "mixer.padding": 0,
        "mixer.instance": 0,
        "mixer.background": False,
        "mixer.model.name": SPEC.name,
        "mixer.model.version": SPEC.version,
        "mixer.model.precision": "fp32",
    }


async def test_a_run_that_fails_says_so(serve: Serve, collector: Collector) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError

    async with serve(engine_of(FakeSession(SPEC, broken), SPEC)) as service:
        answer = await service.http.post("/classify", content=image(RED), headers=SAMPLED)
    assert answer.status_code == 500
    (run,) = (span for span in collector.spans if span.name == "run")
    assert run.status.code == ERROR
    assert values_of(run)["error.type"] == "ZeroDivisionError"
    request = collector.of_trace(TRACE)["POST /classify"]
    assert (request.status.code, request.status.message) == (ERROR, InferenceFailed.code)


# --- requests that fail ---


async def test_a_client_that_is_wrong_is_no_error_of_the_service(serve: Serve, collector: Collector) -> None:
    async with serve() as service:
        await service.http.post("/classify", content=b"no picture", headers=SAMPLED)
    spans = collector.of_trace(TRACE)
    values = values_of(spans["POST /classify"])
    assert set(spans) == {"POST /classify", "receive", "decode", "respond"}
    assert spans["POST /classify"].status.code == UNSET
    assert (values["http.response.status_code"], values["mixer.problem.code"]) == (400, "bad_picture")
    assert "error.type" not in values


async def test_a_deadline_that_passes_in_the_queue_is_an_error_with_its_wait(
    serve: Serve, collector: Collector
) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), request_timeout_s=0.5, decode_threads=1) as service:
        ahead = asyncio.create_task(service.http.post("/classify", content=image(RED)))
        await session.entered.wait()
        late = await service.http.post("/classify", content=image(RED), headers=SAMPLED)
        session.open_gate()
        await ahead
    assert late.status_code == 504
    spans = collector.of_trace(TRACE)
    values = values_of(spans["POST /classify"])
    assert set(spans) == {"POST /classify", "receive", "queue", "respond"}  # nothing was decoded in vain
    assert (spans["POST /classify"].status.code, values["error.type"]) == (ERROR, "deadline_passed")
    assert values["http.response.status_code"] == 504
    assert ms_of(spans["queue"]) > 250


async def test_a_client_that_hangs_up_is_told_without_a_status(serve: Serve, collector: Collector) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC)) as service:
        ahead = asyncio.create_task(service.http.post("/classify", content=image(RED)))
        await session.entered.wait()
        call = AsgiCall("/classify", SAMPLED)
        call.send_body(image(RED))
        answering = asyncio.create_task(call.go(service.app))
        await service.metrics.until(lambda: service.metrics.waiting == 1)
        call.hang_up()
        await answering
        session.open_gate()
        await ahead
    request = collector.of_trace(TRACE)["POST /classify"]
    values = values_of(request)
    assert request.status.code == UNSET
    assert "http.response.status_code" not in values
    assert values["error.type"] == values["mixer.problem.code"] == "client_gone"


async def test_a_refusal_at_the_head_is_one_span(serve: Serve, collector: Collector) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), queue_capacity=1, max_images_per_request=1) as service:
        ahead = asyncio.create_task(service.http.post("/classify", content=image(RED)))
        await session.entered.wait()
        answer = AsgiCall("/classify?top_k=1", SAMPLED).ask(service.gate)
        session.open_gate()
        await ahead
    assert answer is not None
    ((name, span),) = collector.of_trace(TRACE).items()
    values = values_of(span)
    assert (name, span.parent_span_id.hex(), span.status.code) == ("POST /classify", SPAN, UNSET)
    assert (values["http.response.status_code"], values["mixer.problem.code"]) == (429, "queue_full")
    assert (values["client.address"], values["server.address"]) == ("127.0.0.1", "service")
    assert values["mixer.request.id"].encode() in answer


# --- which requests are traced ---


async def test_a_bad_parent_is_ignored_and_a_new_trace_begun(serve: Serve, collector: Collector) -> None:
    bad = {"traceparent": f"00-{TRACE.upper()}-{SPAN}-01", "tracestate": "shop=1"}
    async with serve() as service:
        await service.http.post("/classify", content=image(RED), headers=bad)
    (request,) = (span for span in collector.spans if span.name == "POST /classify")
    assert request.trace_id.hex() != TRACE
    assert (request.parent_span_id, request.trace_state) == (b"", "")


@pytest.mark.parametrize(
    ("sampler", "argument", "headers", "is_sampled"),
    [
        ("", "", {}, True),
        ("", "", traced(5, "00"), False),
        ("always_off", "", traced(5), False),
        ("always_on", "", traced(5, "00"), True),
        ("parentbased_always_off", "", {}, False),
        ("parentbased_always_off", "", traced(5), True),
        ("parentbased_traceidratio", "0", {}, False),
        ("parentbased_traceidratio", "0", traced(5), True),
        ("traceidratio", "1", {}, True),
    ],
)
async def test_the_sampler_of_the_variables_decides(
    sampler: str, argument: str, headers: dict[str, str], is_sampled: bool,
    serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler or "parentbased_always_on")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    async with serve() as service:
        await service.http.post("/classify", content=image(RED), headers=headers)
    assert bool(collector.spans) is is_sampled


async def test_probes_and_scrapes_begin_no_trace_and_belong_to_one_that_asks(
    serve: Serve, collector: Collector
) -> None:
    async with serve() as service:
        for path in ("/health/ready", "/metrics", "/v2/health/live", "/ping"):
            assert (await service.http.get(path)).status_code == 200
        await service.http.get("/health/ready", headers=SAMPLED)
    assert [span.name for span in collector.spans] == ["GET /health/ready"]


# --- exemplars ---


async def test_a_sampled_request_is_the_exemplar_of_its_buckets(serve: Serve, collector: Collector) -> None:
    async with serve() as service:
        await service.http.post("/classify", content=image(RED), headers=traced(5, "00"))
        none = await service.http.get("/metrics", headers={"accept": "application/openmetrics-text"})
        await service.http.post("/classify", content=image(RED), headers=SAMPLED)
        answer = await service.http.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert "trace_id" not in none.text
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    span_id = collector.of_trace(TRACE)["POST /classify"].span_id.hex()
    seen = set()
    for name in ("mixer_request_seconds", "mixer_stage_seconds"):
        below = 0.0
        for sample in families[name].samples:
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                below = 0.0 if bound < below else below
                if sample.exemplar is not None:
                    assert sample.exemplar.labels == {"trace_id": TRACE, "span_id": span_id}
                    assert below < sample.exemplar.value <= bound
                    assert abs(float(sample.exemplar.timestamp) - time.time()) < PATIENCE_S
                    seen.add(sample.labels.get("stage") or sample.labels["endpoint"])
                below = bound
    assert seen == {"/classify", *STAGES}


# --- the service as processes ---


def post(server: Server, content: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/classify", content, headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


def served(bundle: Path, *flags: str, workers: int = 2) -> Server:
    port = free_port()
    command = ("-m", "cli", "serve", "--port", str(port), "--bundle", str(bundle), "--workers", str(workers), *flags)
    return Server(*command, port=port)


@pytest.mark.process
def test_each_worker_sends_its_own_and_the_last_ones_at_its_end(
    bundle: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")  # nothing is sent before the end
    monkeypatch.setenv("OTEL_SERVICE_NAME", "colours")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=mine")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with served(bundle) as server:
        server.wait_until_serving(2)
        number, timings = 0, {}
        while len(collector_workers(server)) < 2:  # a connection each
            number += 1
            status, headers = post(server, image(RED), traced(number))
            assert status == 200
            timings[number] = headers["server-timing"]
        assert not collector.spans
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
    assert len({one["process.pid"] for one in collector.resources}) == 2
    assert {one["mixer.worker"] for one in collector.resources} == {0, 1}
    assert {one["service.name"] for one in collector.resources} == {"colours"}
    assert {one["service.version"] for one in collector.resources} == {"mine"}
    assert {one["deployment.environment.name"] for one in collector.resources} == {"test"}
    assert {one["api-key"] for one in collector.headers} == {"secret"}
    for one, timing in timings.items():
        spans = collector.of_trace(f"{one:032x}")
        assert set(spans) == {"POST /classify", *STAGES}
        assert spans["POST /classify"].parent_span_id.hex() == f"{one:016x}"
        told = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", timing)}
        assert all(ms_of(spans[stage]) == pytest.approx(told[stage], abs=0.0051) for stage in STAGES[:4])


def collector_workers(server: Server) -> set[str]:
    """The workers that have answered a picture."""
    return {line.partition("[worker ")[2][:1] for line in list(server.lines) if "POST /classify 200" in line}


@pytest.mark.process
def test_log_lines_of_a_traced_request_have_its_ids(bundle: Path, collector: Collector) -> None:
    with served(bundle, workers=1) as server:
        server.wait_until_serving()
        post(server, image(RED), SAMPLED)
        post(server, image(RED), traced(5, "00"))
        (ids,) = server.wait_for(r"POST /classify 200 .* trace_id=(\w+ span_id=\w+)$")
        span = collector.of_trace(TRACE)["POST /classify"]
        assert ids == f"{TRACE} span_id={span.span_id.hex()}"
        server.wait_for("POST /classify 200", 2)
        assert not [line for line in server.lines if f"{5:032x}" in line]


@pytest.mark.process
@pytest.mark.parametrize("trouble", ["away", "silent", "broken"])
def test_a_collector_in_trouble_holds_up_no_answer_no_end_and_fills_no_log(
    trouble: str, bundle: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    if trouble == "away":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    elif trouble == "silent":
        collector.hold.clear()
    else:
        collector.status = 500
    with served(bundle, workers=1) as server:
        server.wait_until_serving()
        for number in range(1, 40):
            assert post(server, image(RED), traced(number))[0] == 200
        if trouble == "broken":
            collector.wait_for_requests(1)
        server.signal(signal.SIGTERM)
        asked = time.monotonic()
        assert server.exit_code() == 0
        assert time.monotonic() - asked < PATIENCE_S / 10
        lines = [line for line in server.lines if "mixer.traces" in line or "opentelemetry" in line]
        assert len(lines) <= 3, lines
        assert not [line for line in server.lines if "Traceback" in line]
    collector.hold.set()


@pytest.mark.process
def test_the_framework_adds_no_spans_of_its_own(
    bundle: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with served(bundle, workers=1) as server:
        server.wait_until_serving()
        asked = urllib.request.Request(f"http://127.0.0.1:{server.port}/models", None, SAMPLED)
        urllib.request.urlopen(asked, timeout=PATIENCE_S).close()
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
    assert [span.name for span in collector.spans] == ["GET /models"]


# --- over gRPC ---


@pytest.mark.parametrize(("pictures", "code"), [([image(RED)], "OK"), ([b"no picture"], "INVALID_ARGUMENT")])
async def test_a_call_has_the_same_spans(pictures: list[bytes], code: str, serve: Serve, collector: Collector) -> None:
    grpc = pytest.importorskip("grpc")
    from app.rpc.open_inference_pb2 import ModelInferRequest  # noqa: PLC0415
    from tests.app.rpc.stub import Stub  # noqa: PLC0415

    content = [b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)]}
    asked = ModelInferRequest(inputs=[tensor], raw_input_contents=content)
    port = free_port()
    async with serve(grpc_port=port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = Stub(channel).ModelInfer(asked, metadata=[*SAMPLED.items(), ("tracestate", "a=1")])
        assert (await call.code()).name == code
    spans = collector.of_trace(TRACE)
    span = spans["inference.GRPCInferenceService/ModelInfer"]
    values = values_of(span)
    assert (span.parent_span_id.hex(), span.kind, span.trace_state) == (SPAN, SERVER, "a=1")
    assert (values["rpc.system.name"], values["rpc.response.status_code"]) == ("grpc", code)
    assert span.status.code == UNSET
    assert ("infer" in spans) is (code == "OK")
    assert values.get("mixer.problem.code") == (None if code == "OK" else "bad_picture")
