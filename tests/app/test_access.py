"""Every request has an id, a timing, its metrics and one line in the log."""

import logging
import re
from typing import Any

import pytest
from asgi import AsgiCall
from colour_bundle import RED, colour_spec, picture
from fakes import FakeSession, WatchedMetrics, engine_of, means_of_colours
from serving import Serve
from starlette.types import Receive, Scope, Send

from app.access import Access
from app.engine import Engine


@pytest.mark.parametrize("offered", ["a", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "A_b.C-9", "x" * 64])
async def test_a_harmless_request_id_is_given_back(offered: str, serve: Serve) -> None:
    async with serve() as service:
        for path in ("/health/live", "/nothing"):
            answer = await service.http.get(path, headers={"x-request-id": offered})
            assert answer.headers["x-request-id"] == offered


@pytest.mark.parametrize("offered", [None, "", "x" * 65, "two words", "<script>", "ü", "a;b", 'say "hi"'])
async def test_any_other_request_id_is_replaced(offered: str | None, serve: Serve) -> None:
    headers = {} if offered is None else {"x-request-id": offered.encode("latin-1")}
    async with serve() as service:
        answers = [await service.http.get("/health/live", headers=headers) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert ids[0] != ids[1]


@pytest.fixture
def alone() -> Engine:
    """An engine without a canary, whose batches hold what a test sends and nothing else."""
    spec = colour_spec(canary=None)
    return engine_of(FakeSession(spec, means_of_colours), spec)


def stages_of(header: str) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", header)}


async def test_server_timing_says_where_the_time_went(serve: Serve, alone: Engine) -> None:
    async with serve(alone) as service:
        answer = await service.http.post("/classify", content=picture(RED))
    stages = stages_of(answer.headers["server-timing"])
    assert list(stages) == ["receive", "decode", "queue", "infer", "total"]
    assert 0 < sum(stages.values()) - stages["total"] <= stages["total"] + 0.05
    assert 'batch;desc="1"' in answer.headers["server-timing"]


@pytest.mark.parametrize(
    ("path", "content", "stages"),
    [
        ("/classify", b"no picture", ["receive", "total"]),
        ("/classify?top_k=99", picture(RED), ["total"]),
        ("/classify?top_k=x", picture(RED), ["total"]),
        ("/classify/batch", picture(RED), ["total"]),
    ],
)
async def test_every_answer_of_classify_is_timed(path: str, content: bytes, stages: list[str], serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(path, content=content)
    assert answer.status_code >= 400
    assert list(stages_of(answer.headers["server-timing"])) == stages
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_one_line_in_the_log_for_each_request(
    serve: Serve, alone: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(alone) as service:
        with caplog.at_level(logging.INFO, "mixer.access"):
            await service.http.post("/classify?top_k=1", content=picture(RED), headers={"x-request-id": "r-1"})
            await service.http.get("/a%0Ab%20c")
    first, second = (record for record in caplog.records if record.name == "mixer.access")
    assert re.fullmatch(r"POST /classify 200 [0-9.]+ms id=r-1", first.getMessage())
    fields = vars(first)
    assert (fields["request_id"], fields["status"], fields["batch_size"]) == ("r-1", 200, 1)
    assert (fields["method"], fields["path"], fields["client"]) == ("POST", "/classify", "127.0.0.1")
    assert second.getMessage().startswith("GET /a%0Ab%20c 404 ")  # nobody writes a line of their own


async def test_a_client_does_not_fill_the_log_with_long_paths(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as service:
        with caplog.at_level(logging.INFO, "mixer.access"):
            await service.http.get("/" + "a" * 60_000)
            await service.http.get("/" + "%0A" * 20_000)
    lines = [record.getMessage() for record in caplog.records if record.name == "mixer.access"]
    assert lines[0].startswith("GET /" + "a" * 255 + " 404 ")
    assert lines[1].startswith("GET /" + "%0A" * 255 + " 404 ")


async def test_without_info_lines_none_are_made(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as service:
        with caplog.at_level(logging.WARNING, "mixer.access"):
            await service.http.get("/health/live")
    assert [record for record in caplog.records if record.name == "mixer.access"] == []


async def test_requests_are_counted_by_endpoint_and_never_by_what_a_client_makes_up(serve: Serve) -> None:
    async with serve() as service:
        await service.http.get("/health/live")
        for path in ("/one", "/two"):
            await service.http.get(path)
        await service.http.get("/classify")
        samples = service.metrics.samples()
    requests = {name: value for name, value in samples.items() if name.startswith("mixer_requests_total")}
    assert requests == {
        'mixer_requests_total{endpoint="/health/live",status="200"}': 1,
        'mixer_requests_total{endpoint="other",status="404"}': 2,
        'mixer_requests_total{endpoint="/classify",status="405"}': 1,
    }


# --- around an application that misbehaves ---


async def _call(app: Any) -> tuple[AsgiCall, WatchedMetrics]:
    metrics = WatchedMetrics()
    call = AsgiCall("/x", method="GET")
    await call.go(Access(app, metrics))
    return call, metrics


async def test_an_error_after_the_answer_has_begun_is_logged_and_sends_no_second_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    call, metrics = await _call(app)
    assert [message["type"] for message in call.sent] == ["http.response.start"]
    assert "request failed" in caplog.text
    assert metrics.samples()['mixer_requests_total{endpoint="other",status="200"}'] == 1


async def test_what_is_not_http_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await Access(app, WatchedMetrics())({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]


async def test_a_request_from_a_socket_without_address_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    call = AsgiCall("/x", method="GET")
    call._scope["client"] = None
    with caplog.at_level(logging.INFO, "mixer.access"):
        await call.go(Access(app, WatchedMetrics()))
    assert vars(caplog.records[-1])["client"] == ""
