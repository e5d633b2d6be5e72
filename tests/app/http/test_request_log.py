"""Every request has an id, a timing, its metrics and one line in the log."""

import logging
import re
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app.engine.engine import Engine
from app.errors import ClientGone
from app.http.request_log import REFUSED, Access, Refused
from tests.app.asgi import AsgiCall
from tests.app.color_bundle import RED, color_spec, image
from tests.app.fakes import FakeSession, WatchedMetrics, engine_of, means_of_colors
from tests.app.in_process import Serve


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
    spec = color_spec(canary=None)
    return engine_of(FakeSession(spec, means_of_colors), spec)


def stages_of(header: str) -> dict[str, float]:
    return {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", header)}


async def test_server_timing_says_where_the_time_went(serve: Serve, alone: Engine) -> None:
    async with serve(alone) as service:
        answer = await service.http.post("/classify", content=image(RED))
    stages = stages_of(answer.headers["server-timing"])
    assert list(stages) == ["receive", "decode", "queue", "infer", "total"]
    assert 0 < sum(stages.values()) - stages["total"] <= stages["total"] + 0.05
    assert 'batch;desc="1"' in answer.headers["server-timing"]


@pytest.mark.parametrize(
    ("path", "content", "stages"),
    [
        ("/classify", b"no picture", ["receive", "total"]),
        ("/classify?top_k=99", image(RED), ["total"]),
        ("/classify?top_k=x", image(RED), ["total"]),
        ("/classify/batch", image(RED), ["total"]),
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
            await service.http.post("/classify?top_k=1", content=image(RED), headers={"x-request-id": "r-1"})
            await service.http.get("/a%0Ab%20c")
    first, second = (record for record in caplog.records if record.name == "mixer.access")
    assert re.fullmatch(r"POST /classify 200 [0-9.]+ms id=r-1", first.getMessage())
    fields = vars(first)
    assert (fields["request_id"], fields["status"], fields["batch_size"]) == ("r-1", 200, 1)
    assert (fields["method"], fields["path"], fields["client"]) == ("POST", "/classify", "127.0.0.1")
    assert second.getMessage().startswith("GET /a%0Ab%20c 404 ")  # nobody writes a line of their own


async def failing(serve: Serve, caplog: pytest.LogCaptureFixture, path: str, **sent: Any) -> logging.LogRecord:
    """The line about one request."""
    async with serve() as service:
        with caplog.at_level(logging.INFO, "mixer.access"):
            await service.http.post(path, **sent)
    (line,) = (record for record in caplog.records if record.name == "mixer.access")
    return line


@pytest.mark.parametrize(
    ("path", "headers", "status", "code", "words"),
    [
        ("/classify", {"content-type": "text/html"}, 415, "unsupported_format", "The content type is 'text/html'"),
        ("/classify", {}, 400, "bad_picture", "The file starts with"),
        ("/classify?topk=3", {}, 422, "bad_parameter", "The query has 'topk'; expected top_k."),
        ("/classify?model=b", {}, 404, "unknown_model", "b"),
        ("/nothing", {}, 404, "not_found", "POST /nothing is not served here"),
        ("/health/live", {}, 405, "method_not_allowed", "expected GET"),
        ("/admin/reload", {}, 403, "forbidden", ""),
        ("/classify/batch", {}, 415, "unsupported_format", "expected multipart/form-data"),
    ],
)
async def test_the_line_of_a_request_that_failed_says_why(
    path: str, headers: dict[str, str], status: int, code: str, words: str,
    serve: Serve, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    line = await failing(serve, caplog, path, content=b"no picture", headers=headers)
    fields = vars(line)
    assert (fields["status"], fields["code"]) == (status, code)
    assert words in fields["detail"]
    assert re.search(rf' {status} [0-9.]+ms id=\S+ code={code} detail=".+"$', line.getMessage())


async def test_the_line_of_a_request_that_succeeded_has_nothing_to_say_of_why(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    line = await failing(serve, caplog, "/classify", content=image(RED))
    assert not {"code", "detail", "errors"} & vars(line).keys()


async def test_what_a_client_wrote_into_a_detail_is_cut_and_escaped(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    for value in ("9" * 5000, 'a"\n2026 ERROR \x1b[2J\u2028'):
        caplog.clear()
        line = await failing(serve, caplog, "/classify", params={"model": value}, content=image(RED))
        detail = vars(line)["detail"]
        assert len(detail) < 300
        assert detail.isprintable()
        assert line.getMessage().isprintable()
        assert re.search(r' detail="(?:[^"\\]|\\.)*"$', line.getMessage())


async def test_the_line_of_a_batch_counts_its_failed_entries_by_code(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    contents = (b"no picture", image(RED), b"none either", b"%PDF-1.7")
    files = [("file", (f"secret-{at}", content)) for at, content in enumerate(contents)]
    line = await failing(serve, caplog, "/classify/batch", files=files)
    assert vars(line)["status"] == 200
    assert vars(line)["errors"] == {"bad_picture": 2, "unsupported_format": 1}
    assert line.getMessage().endswith(" errors=bad_picture:2,unsupported_format:1")
    assert "secret" not in caplog.text


async def test_requests_that_failed_are_counted_by_code(serve: Serve) -> None:
    async with serve() as service:
        await service.http.post("/classify", content=image(RED))
        await service.http.post("/classify", content=b"no picture")
        for path in ("/one", "/two"):
            await service.http.get(path)
        samples = service.metrics.samples()
    assert {name: value for name, value in samples.items() if name.startswith("mixer_errors_total")} == {
        'mixer_errors_total{code="bad_picture",endpoint="/classify"}': 1,
        'mixer_errors_total{code="not_found",endpoint="other"}': 2,
    }


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


async def test_an_unexpected_error_has_its_code_in_the_line(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("a secret")

    with caplog.at_level(logging.INFO, "mixer.access"):
        _, metrics = await _call(app)
    assert vars(caplog.records[-1])["code"] == "internal_error"
    assert "secret" not in caplog.records[-1].getMessage()
    assert metrics.samples()['mixer_errors_total{code="internal_error",endpoint="other"}'] == 1


@pytest.mark.parametrize(("status", "code"), [(418, "http_error"), (None, "client_gone")])
async def test_a_failure_that_names_no_problem_has_a_code_all_the_same(
    status: int | None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if status is None:
            raise ClientGone
        await send({"type": "http.response.start", "status": status, "headers": []})

    with caplog.at_level(logging.INFO, "mixer.access"):
        await _call(app)
    assert vars(caplog.records[-1])["code"] == code


async def test_what_a_connection_answered_in_the_place_of_the_application_stands_in_the_requests_own_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[REFUSED] = Refused(400, "bad_request", "The body has too many chunks.", "r-2")
        raise ClientGone

    with caplog.at_level(logging.INFO, "mixer.access"):
        _, metrics = await _call(app)
    assert re.fullmatch(
        r'GET /x 400 [0-9.]+ms id=r-2 code=bad_request detail="The body has too many chunks."',
        caplog.records[-1].getMessage(),
    )
    assert metrics.samples()['mixer_requests_total{endpoint="other",status="400"}'] == 1


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
