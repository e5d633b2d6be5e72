"""Requests that are refused at their head: which, with what answer, and what becomes of their bodies."""

import asyncio
import json
import logging
import math
import re
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.errors import BadParameter, NotReady, QueueFull
from app.http import dispatcher
from app.http.dispatcher import HELD
from app.server import refusals
from app.server.connection import Connection
from app.server.gate import Gate
from tests.app.fakes import WatchedMetrics
from tests.app.server.test_connection import KEEP_ALIVE_S, Application, FakeTransport, settled
from tests.app.virtual_time import in_virtual_time, now

HEAD = b"POST /classify HTTP/1.1\r\nHost: service\r\nContent-Length: 5\r\n"


class Hurdle:
    """What gives a place where there is room; remembers how long each request would have waited."""

    def __init__(self, *, room: int = 0) -> None:
        self.room = room
        self.asked: list[float] = []
        self.given: list[object] = []

    def __call__(self, deadline: float) -> object:
        self.asked.append(deadline - asyncio.get_running_loop().time())
        if len(self.given) >= self.room:
            raise QueueFull("There is no room. Try again in 7 s.", 7)
        self.given.append(object())
        return self.given[-1]


def gated(app: Any, hurdle: Hurdle) -> tuple[Connection, FakeTransport, WatchedMetrics]:
    metrics = WatchedMetrics()
    config = uvicorn.Config(app, timeout_keep_alive=KEEP_ALIVE_S, log_config=None, lifespan="off")
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    gate = Gate(hurdle, metrics, timeout_s=30)
    connection, transport = Connection(config, state, {}, asyncio.get_running_loop(), gate=gate), FakeTransport()
    connection.connection_made(transport)
    return connection, transport, metrics


def parts(answer: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, dict(line.split(b": ", 1) for line in lines), body


def test_a_refusal_has_the_status_that_its_protocol_has_for_it() -> None:
    told = refusals.answer(BadParameter("No."), "id", "/v2/models/a/infer")
    status, headers, body = parts(told)
    assert status == b"HTTP/1.1 400 Bad Request"
    assert json.loads(body)["status"] == 400
    assert int(headers[b"content-length"]) == len(body)
    assert headers[b"connection"] == b"close"
    assert parts(refusals.answer(BadParameter("No."), "id", "/classify"))[0].startswith(b"HTTP/1.1 422 ")


@in_virtual_time
async def test_a_picture_of_another_protocol_is_refused_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    app = dispatcher.Application()
    app.dispatch("POST", "/v2/models/{model}/infer", Application())
    app.dispatch("POST", "/classify/batch", Application())
    hurdle, metrics = Hurdle(), WatchedMetrics()
    gate = Gate(hurdle, metrics, timeout_s=30, root_path="/mixer", pattern_of=app.pattern_of)
    with caplog.at_level(logging.INFO):
        for before in (b"", b"/mixer"):
            url = before + b"/v2/models/a%20b/infer?x"
            answer = gate.reject_early(b"POST", url, {"headers": []}, keep_alive=True)
            assert answer is not None
            status, headers, body = parts(answer)
            assert status == b"HTTP/1.1 429 Too Many Requests"
            assert headers[b"content-type"] == b"application/json"
            assert json.loads(body)["error"] == "There is no room. Try again in 7 s."
    assert "POST /v2/models/a%2520b/infer 429" in caplog.records[0].getMessage()
    assert metrics.samples()['mixer_requests_total{endpoint="/v2/models/{model}/infer",status="429"}'] == 2
    for url in (b"/classify/batch", b"/v2/models/a/b/infer", b"/v2"):
        assert gate.reject_early(b"POST", url, {"headers": []}, keep_alive=True) is None
    assert gate.reject_early(b"GET", b"/v2/models/a/infer", {"headers": []}, keep_alive=True) is None
    gate.count_abandoned([{"path": path, "method": "POST"} for path in ("/v2/models/a/infer", "/v2", "/classify")])
    assert metrics.samples()['mixer_dropped_total{reason="client_gone",stage="receive"}'] == 2


@in_virtual_time
async def test_a_picture_without_room_is_refused_before_its_body_arrives(caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    connection, transport, metrics = gated(app, Hurdle())
    with caplog.at_level(logging.INFO):
        connection.data_received(HEAD + b"\r\n")
    (line,) = caplog.records
    reason = 'code=queue_full detail="There is no room. Try again in 7 s."'
    assert re.fullmatch(rf"POST /classify 429 [0-9.]+ms id=[0-9a-f]{{32}} {reason}", line.getMessage())
    status, headers, body = parts(transport.written)
    assert status == b"HTTP/1.1 429 Too Many Requests"
    assert headers[b"retry-after"] == b"7"
    assert headers[b"date"] == b"today"
    assert headers[b"content-type"] == b"application/problem+json"
    assert len(headers[b"x-request-id"]) == 32
    assert int(headers[b"content-length"]) == len(body)
    assert json.loads(body) == {
        "type": "urn:mixer-serve:queue_full",
        "title": "Queue full",
        "status": 429,
        "detail": "There is no room. Try again in 7 s.",
        "code": "queue_full",
    }
    await settled()
    assert app.begun == 0
    samples = metrics.samples()
    assert samples['mixer_requests_total{endpoint="/classify",status="429"}'] == 1
    assert samples['mixer_errors_total{code="queue_full",endpoint="/classify"}'] == 1


@in_virtual_time
async def test_its_body_is_no_request_and_the_next_one_is_served() -> None:
    app, hurdle = Application(), Hurdle()
    connection, transport, _ = gated(app, hurdle)
    connection.data_received(HEAD + b"\r\nGET ")
    connection.data_received(b"/")
    hurdle.room = 1
    connection.data_received(HEAD + b"\r\n12345")
    await app.release()
    assert app.begun == 1
    assert transport.written.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 204" in transport.written
    assert not transport.is_closing()


@in_virtual_time
@pytest.mark.parametrize("room", [0, 1], ids=["refused at its head", "answered by the application"])
@pytest.mark.parametrize("fault", [b"zzz\r\n", b"1\r\na\r\n" * 2000], ids=["no chunk", "a flood of chunks"])
async def test_a_fault_in_a_body_whose_request_is_answered_gets_no_second_answer(room: int, fault: bytes) -> None:
    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    connection, transport, metrics = gated(refusing, Hurdle(room=room))
    connection.data_received(HEAD.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"\r\n")
    await settled()
    connection.data_received(fault)
    await transport.ended.wait()
    assert transport.written.count(b"HTTP/1.1 ") == 1
    assert not [name for name in metrics.samples() if "other" in name]


@in_virtual_time
@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Expect: 100-continue\r\n",
        HEAD + b"Connection: close\r\n",
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n",
    ],
    ids=["waits to be asked", "says so", "is of HTTP/1.0", "is of HTTP/1.0 whatever it says"],
)
async def test_whoever_sends_no_other_request_is_told_at_once_that_this_is_the_end(head: bytes) -> None:
    connection, transport, _ = gated(Application(), Hurdle())
    connection.data_received(head + b"\r\n")
    assert b"\r\nconnection: close\r\n" in transport.written
    assert transport.said_all
    connection.data_received(b"12345")  # which would be answered by a reset, were it closed by now
    assert transport.is_closing()
    assert transport.written.count(b"HTTP/1.1 ") == 1


@in_virtual_time
async def test_without_a_body_the_end_is_at_once() -> None:
    connection, transport, _ = gated(Application(), Hurdle())
    connection.data_received(HEAD + b"Connection: close\r\n\r\n12345")
    assert transport.is_closing()


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        (b"/vision/mixer/classify", True),
        (b"/vision/mixer/classify?top_k=1", True),
        (b"/classify", True),  # a proxy took the prefix off
        (b"/mixer/classify", False),
        (b"/vision/mixer/classify/batch", False),
    ],
)
async def test_it_knows_the_prefix_that_paths_may_have(url: bytes, refused: bool) -> None:
    gate = Gate(Hurdle(), WatchedMetrics(), timeout_s=30, root_path="/vision/mixer")
    scope = {"headers": [], "client": None}
    assert (gate.reject_early(b"POST", url, scope, keep_alive=True) is not None) == refused


async def test_a_gate_that_stands_open_refuses_nobody() -> None:
    gate = Gate(None, WatchedMetrics(), timeout_s=30)
    assert gate.reject_early(b"POST", b"/classify", {"headers": []}, keep_alive=True) is None


@pytest.mark.parametrize("answer", [None, NotReady("The service is draining.")])
async def test_what_gives_no_place_leaves_the_answer_to_the_application(answer: NotReady | None) -> None:
    def expect(deadline: float) -> None:
        if answer is not None:
            raise answer

    gate, scope = Gate(expect, WatchedMetrics(), timeout_s=30), {"headers": []}
    assert gate.reject_early(b"POST", b"/classify", scope, keep_alive=True) is None
    assert HELD not in scope


@in_virtual_time
async def test_a_body_that_never_ends_does_not_keep_the_connection() -> None:
    connection, transport, _ = gated(Application(), Hurdle())
    connection.data_received(HEAD + b"\r\n12")
    await transport.ended.wait()
    assert now() == KEEP_ALIVE_S


@in_virtual_time
@pytest.mark.parametrize(
    "request_line", [b"GET /classify", b"POST /classify/batch", b"POST /", b"POST /classify/", b"GET /health/ready"]
)
async def test_everything_else_comes_in(request_line: bytes) -> None:
    app, hurdle = Application(), Hurdle()
    connection, _, _ = gated(app, hurdle)
    connection.data_received(request_line + b" HTTP/1.1\r\nHost: service\r\n\r\n")
    await settled()
    assert (app.begun, hurdle.asked) == (1, [])


@in_virtual_time
async def test_answers_keep_their_order() -> None:
    """A request behind one that is being answered is not refused before it."""
    app = Application()
    connection, transport, _ = gated(app, Hurdle())
    connection.data_received(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n" + HEAD + b"\r\n12345")
    await app.release()
    assert transport.written.startswith(b"HTTP/1.1 204")
    await app.release()
    assert app.begun == 2
    assert b"429" not in transport.written


@in_virtual_time
@pytest.mark.parametrize(
    ("header", "timeout_s"),
    [(b"", 30), (b"X-Request-Timeout-Ms: 250\r\n", 0.25), (b"x-request-timeout-ms: 90000\r\n", 30)],
)
async def test_the_clients_own_patience_counts_up_to_the_services(header: bytes, timeout_s: float) -> None:
    hurdle = Hurdle(room=1)
    connection, _, _ = gated(Application(), hurdle)
    connection.data_received(HEAD.replace(b"/classify", b"/classify?top_k=1") + header + b"\r\n12345")
    await settled()
    assert hurdle.asked == [timeout_s]
    assert not math.isinf(timeout_s)


@in_virtual_time
@pytest.mark.parametrize("said", [b"soon", b"nan", b"0", b"-5"])
async def test_patience_that_is_no_number_is_left_to_the_application(said: bytes) -> None:
    hurdle = Hurdle(room=1)
    connection, _, _ = gated(Application(), hurdle)
    connection.data_received(HEAD + b"X-Request-Timeout-Ms: " + said + b"\r\n\r\n12345")
    await settled()
    assert hurdle.asked == [30]


@in_virtual_time
@pytest.mark.parametrize(("offered", "given"), [(b"mine-1", b"mine-1"), (b"two words", None)])
async def test_a_refusal_carries_the_clients_own_id_where_it_is_harmless(offered: bytes, given: bytes | None) -> None:
    connection, transport, _ = gated(Application(), Hurdle())
    connection.data_received(HEAD + b"X-Request-ID: " + offered + b"\r\n\r\n")
    request_id = parts(transport.written)[1][b"x-request-id"]
    assert request_id == given or (given is None and len(request_id) == 32)


@in_virtual_time
async def test_whoever_is_let_in_has_a_place_from_then_on() -> None:
    app, hurdle = Application(), Hurdle(room=2)
    connection, transport, _ = gated(app, hurdle)
    others = [
        Connection(connection.config, connection.server_state, {}, connection.loop, gate=connection._gate) for _ in "12"
    ]
    for other in others:
        other.connection_made(FakeTransport())
        other.data_received(HEAD + b"\r\n12345")
    connection.data_received(HEAD + b"\r\n12345")
    assert transport.written.startswith(b"HTTP/1.1 429")
    await settled()
    assert [scope[HELD] for scope in app.scopes] == hurdle.given


@in_virtual_time
async def test_the_longest_turn_of_the_last_second_is_time_that_a_request_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr("app.server.gate.time.perf_counter", lambda: clock)
    hurdle = Hurdle(room=9)
    app = Application()

    async def asks(turn_s: float, header: bytes = b"") -> float:
        nonlocal clock
        connection = gated_by(gate)
        connection.data_received(HEAD + header + b"\r\n12345")
        clock += turn_s
        await settled()
        return hurdle.asked[-1]

    gate = Gate(hurdle, WatchedMetrics(), timeout_s=30)

    def gated_by(gate: Gate) -> Connection:
        config = uvicorn.Config(app, timeout_keep_alive=KEEP_ALIVE_S, log_config=None, lifespan="off")
        connection = Connection(config, ServerState(), {}, asyncio.get_running_loop(), gate=gate)
        connection.connection_made(FakeTransport())
        return connection

    assert await asks(0.05) == 30
    assert await asks(0.01) == pytest.approx(30 - 0.05)
    assert await asks(0.0, b"X-Request-Timeout-Ms: 1000\r\n") == pytest.approx(1 - 0.05)
    assert await asks(0.0, b"X-Request-Timeout-Ms: 100\r\n") == pytest.approx(0.1 - 0.02)  # a fifth at most
    clock += 1
    assert await asks(0.02) == 30
    assert await asks(0.0) == pytest.approx(30 - 0.02)
