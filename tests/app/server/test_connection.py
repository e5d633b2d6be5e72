"""One connection, by hand: a transport that only remembers, and time that only tests let pass."""

import asyncio
import json
import logging
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.errors import ClientGone
from app.http.disconnect import DISCONNECT
from app.http.request_log import Access
from app.server.connection import Connection
from app.server.flow_control import ConnectionRebalancer
from app.server.framing import MAX_HEAD_BYTES
from app.server.gate import Gate
from app.telemetry.tracing import CURRENT, SpanId, Trace
from tests.app.fakes import WatchedMetrics
from tests.app.problem_answers import expect_problem_body
from tests.app.virtual_time import in_virtual_time, now

KEEP_ALIVE_S = 5
REQUEST = b"GET /a HTTP/1.1\r\nHost: service\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Remembers what is written, when it was closed or aborted, and whether it reads."""

    def __init__(self, *, half_closes: bool = True, socket: Any = None) -> None:
        super().__init__()
        self.written = b""
        self.said_all = False
        self._half_closes, self._socket = half_closes, socket
        self.ended = asyncio.Event()
        self.aborted = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    def write(self, data: Any) -> None:
        assert not self.said_all
        self.written += data

    def can_write_eof(self) -> bool:
        return self._half_closes

    def write_eof(self) -> None:
        assert self._half_closes
        self.said_all = True

    def is_closing(self) -> bool:
        return self.ended.is_set()

    def close(self) -> None:
        self.ended.set()

    def abort(self) -> None:
        self.aborted = True
        self.ended.set()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Application:
    """Answers each request when it is released."""

    def __init__(self) -> None:
        self.begun = 0
        self.scopes: list[Any] = []
        self._gates: list[asyncio.Event] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        self.scopes.append(scope)
        gate = asyncio.Event()
        self._gates.append(gate)
        await receive()
        await gate.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def release(self) -> None:
        await settled()
        self._gates.pop(0).set()
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def connected(
    app: Any,
    hangup_watcher: Any = None,
    gate: Gate | None = None,
    metrics: Any = None,
    rebalancer: ConnectionRebalancer | None = None,
    most: int | None = None,
    **kind: Any,
) -> tuple[Connection, FakeTransport]:
    config = uvicorn.Config(
        app, timeout_keep_alive=KEEP_ALIVE_S, limit_concurrency=most, log_config=None, lifespan="off"
    )
    loop = asyncio.get_running_loop()
    connection = Connection(
        config,
        ServerState(),
        {},
        loop,
        hangup_watcher=hangup_watcher,
        rebalancer=rebalancer,
        gate=gate,
        metrics=metrics,
    )
    transport = FakeTransport(**kind)
    connection.connection_made(transport)
    return connection, transport


@in_virtual_time
async def test_silence_ends_after_the_keep_alive_timeout() -> None:
    _, transport = connected(Application())
    await transport.ended.wait()
    assert now() == KEEP_ALIVE_S


@in_virtual_time
async def test_headers_that_trickle_in_do_not_postpone_the_end() -> None:
    connection, transport = connected(Application())
    for second in range(1, KEEP_ALIVE_S):
        asyncio.get_running_loop().call_at(second, connection.data_received, REQUEST[second - 1 : second])
    await transport.ended.wait()
    assert now() == KEEP_ALIVE_S


@in_virtual_time
async def test_a_request_may_take_its_time_and_an_answer_starts_the_wait_anew() -> None:
    app = Application()
    connection, transport = connected(app)
    asyncio.get_running_loop().call_at(3, connection.data_received, REQUEST)
    await asyncio.wait([asyncio.ensure_future(transport.ended.wait())], timeout=100)
    assert not transport.is_closing()
    await app.release()
    assert b" 204 " in transport.written
    connection.data_received(b"G")  # and nothing after it
    await transport.ended.wait()
    assert now() == 100 + KEEP_ALIVE_S


@in_virtual_time
async def test_of_a_connection_that_is_lost_nothing_is_left_to_wait_for() -> None:
    connection, transport = connected(Application())
    connection.pause_writing()
    connection.connection_lost(ConnectionResetError())
    await asyncio.wait([asyncio.ensure_future(transport.ended.wait())], timeout=100)
    assert not transport.is_closing()


@in_virtual_time
async def test_an_answer_that_is_not_read_is_given_up() -> None:
    connection, transport = connected(Application())
    connection.data_received(REQUEST)
    connection.pause_writing()
    await transport.ended.wait()
    assert transport.aborted
    assert now() == KEEP_ALIVE_S
    connection.connection_lost(None)


@in_virtual_time
async def test_an_answer_that_is_read_slowly_is_not() -> None:
    connection, transport = connected(Application())
    connection.data_received(REQUEST)
    connection.pause_writing()
    connection.resume_writing()
    await asyncio.wait([asyncio.ensure_future(transport.ended.wait())], timeout=100)
    assert not transport.is_closing()


@pytest.mark.parametrize("endless", [b"GET /", b"GET / HTTP/1.1\r\nX: "])
async def test_headers_without_end_get_431(endless: bytes) -> None:
    connection, transport = connected(Application())
    connection.data_received(endless)
    connection.data_received(b"a" * (MAX_HEAD_BYTES - len(endless)))
    assert transport.written == b""
    connection.data_received(b"a")
    assert transport.written.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert problem_in(transport.written)["detail"] == "The headers have more than 65536 bytes, the most expected."
    assert transport.is_closing()


async def test_a_body_is_no_header_however_long_it_is() -> None:
    connection, transport = connected(Application())
    connection.data_received(b"POST / HTTP/1.1\r\nHost: service\r\nContent-Length: 10000000\r\n\r\n")
    for _ in range(10):
        connection.data_received(bytes(MAX_HEAD_BYTES))
    assert not transport.is_closing()


async def test_of_requests_sent_ahead_no_more_are_read_until_they_are_served() -> None:
    app = Application()
    connection, transport = connected(app)
    connection.data_received(REQUEST * 3)
    await settled()
    assert (app.begun, transport.reading) == (1, False)
    await app.release()
    assert (app.begun, transport.reading) == (2, False)
    await app.release()
    assert (app.begun, transport.reading) == (3, True)
    await app.release()
    assert transport.written.count(b" 204 ") == 3


# --- offers of another protocol ---

BODY = b"GET /hidden HTTP/1.1\r\nHost: service\r\n\r\n"
OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: upgrade\r\n",
    b"Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\nExpect: 100-continue\r\n",
    b"Connection: upgrade\r\nUpgrade:\r\n",
]
FRAMES = [
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    b"Transfer-Encoding: chunked\r\n\r\n7\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:7], len(BODY) - 7, BODY[7:]),
]


class Listing:
    """Answers each request at once, and remembers what it was."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, bytes, set[bytes]]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.heard.append((scope["method"], scope["path"], body, {name for name, _ in scope["headers"]}))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


@pytest.mark.heavy
@pytest.mark.parametrize("frame", FRAMES, ids=["a length", "chunks"])
@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket", "two", "nothing"])
async def test_an_offer_of_another_protocol_is_ignored_wherever_the_request_is_cut(
    offer: bytes, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    request = b"POST /here HTTP/1.1\r\nHost: service\r\nX:\r\n" + offer + frame
    after = b"GET /after HTTP/1.1\r\nHost: service\r\n" + offer + b"\r\n"
    together = request + after + request
    for cut in range(len(together)):
        app = Listing()
        connection, transport = connected(app)
        connection.data_received(together[:cut])
        if not cut % 2:
            await settled()
        connection.data_received(together[cut:])
        for _ in range(4):
            await settled()
        assert [one[:3] for one in app.heard] == [
            ("POST", "/here", BODY),
            ("GET", "/after", b""),
            ("POST", "/here", BODY),
        ]
        assert all(b"host" in one[3] for one in app.heard)
        assert transport.written.count(b"HTTP/1.1 204 ") == 3
        assert not transport.is_closing()
    assert not caplog.records


async def test_an_offer_with_the_last_request_of_a_connection_leaves_it_the_last() -> None:
    app = Listing()
    connection, transport = connected(app)
    head = b"POST /here HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\n"
    connection.data_received(head + b"abc" + REQUEST)
    await settled()
    assert [one[:3] for one in app.heard] == [("POST", "/here", b"abc")]
    assert transport.is_closing()


# --- heads that could be taken for something else ---

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
HEADS = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "two hosts of 1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a host that is none": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "a host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "no host, with an offer": (b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 400),
    "chunks of 1.0": (b"POST / HTTP/1.0\r\n" + CHUNKED, 400),
    "two codings": (b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED.replace(b"chunked", b"gzip, chunked"), 501),
    "two headers of codings": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n" + CHUNKED, 501),
    "another coding": (b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED.replace(b"chunked", b"gzip"), 501),
    "a length and chunks": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n" + CHUNKED, 400),
    "chunks and a length": (
        b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1),
        400,
    ),
    "a tunnel": (b"CONNECT service:443 HTTP/1.1\r\nHost: service\r\n\r\n", 400),
    "a tunnel with a length": (b"CONNECT service:443 HTTP/1.1\r\nHost: service\r\nContent-Length: 5\r\n\r\n", 400),
}


@pytest.mark.parametrize(("head", "status"), HEADS.values(), ids=HEADS.keys())
async def test_a_head_that_could_be_taken_for_another_is_refused_and_nothing_behind_it_is_heard(
    head: bytes, status: int
) -> None:
    app = Listing()
    connection, transport = connected(app)
    connection.data_received(head + REQUEST)
    connection.data_received(REQUEST)
    await settled()
    assert transport.written.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in transport.written
    assert transport.written.count(b"HTTP/1.1 ") == 1
    assert not app.heard
    assert transport.said_all or transport.is_closing()


@in_virtual_time
async def test_after_such_a_head_a_client_has_a_second_to_read_why() -> None:
    connection, transport = connected(Listing())
    connection.data_received(HEADS["no host"][0])
    assert (transport.said_all, transport.is_closing()) == (True, False)
    await transport.ended.wait()
    assert now() == 1.0


@pytest.mark.parametrize(
    "host", [b"", b"service", b"127.0.0.1:8000", b"[::1]:8000", b"a_b.example", b"%41", b"a  ", b"a\t"]
)
async def test_any_host_will_do(host: bytes) -> None:
    app = Listing()
    connection, _ = connected(app)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    connection.data_received(b"GET / HTTP/1.0\r\n\r\n")
    await settled()
    assert len(app.heard) == 2


async def test_trailers_are_no_headers() -> None:
    app = Listing()
    connection, _ = connected(app)
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED[:-2] + b"X-Trailer: a\r\n\r\n")
    await settled()
    assert [one[3] for one in app.heard] == [{b"host", b"transfer-encoding"}]


# --- too many pieces ---


async def test_a_body_in_absurdly_many_chunks_is_refused() -> None:
    app = Listing()
    connection, transport = connected(app)
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED[:-5] + b"1\r\na\r\n" * 1100)
    await settled()
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert b"expected at most 1000, and one more for each 16 bytes." in transport.written
    assert transport.is_closing()


@pytest.mark.parametrize(("size", "count"), [(1, 999), (16, 20_000), (17, 20_000)])
async def test_many_chunks_are_taken_where_they_have_many_bytes(size: int, count: int) -> None:
    app = Listing()
    connection, _ = connected(app)
    chunk = b"%x\r\n%b\r\n" % (size, bytes(size))
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED[:-5] + chunk * count + b"0\r\n\r\n")
    await settled()
    assert [len(one[2]) for one in app.heard] == [size * count]


async def test_thousands_of_requests_in_one_piece_are_refused() -> None:
    app = Application()
    connection, transport = connected(app)
    connection.data_received(REQUEST * 5000)
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert transport.is_closing()
    await settled()
    assert app.begun <= 1


# --- what is told of a refusal ---

POST = b"POST /some\r\nwhere HTTP/1.1\r\nHost: a\r\n".replace(b"\r\n", b"%0A", 1)
REFUSALS = {
    "no HTTP": (b"\x16\x03\x01 GET / HTTP/9.9\nERROR forged\r\n\r\n", 400, "bad_request", "- -"),
    "a head": (b"GET /a?b HTTP/1.1\r\n\r\n", 400, "bad_request", "GET /a"),
    "a head too long": (b"GET /" + b"a" * MAX_HEAD_BYTES, 431, "head_too_large", "- -"),
    "a coding": (POST + CHUNKED.replace(b"chunked", b"gz\tip"), 501, "unknown_transfer_coding", "POST /some%250Awhere"),
    "a flood": (REQUEST * 5000, 400, "bad_request", "GET /a"),
    "a long path": (b"GET /" + b"%" * 5000 + b" HTTP/1.1\r\n\r\n", 400, "bad_request", "GET /" + "%25" * 255),
}


def problem_in(written: bytes) -> dict[str, Any]:
    head, _, body = written.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-content-type-options: nosniff\r\n" in head
    assert b"\r\ncontent-length: %d\r\n" % len(body) in head
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize(("sent", "status", "code", "request_line"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_a_refusal_is_a_problem_with_a_line_in_the_log_and_a_count(
    sent: bytes, status: int, code: str, request_line: str, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = WatchedMetrics()
    connection, transport = connected(Listing(), metrics=metrics)
    with caplog.at_level(logging.DEBUG):
        connection.data_received(sent)
        connection.connection_lost(None)
    problem = expect_problem_body(problem_in(transport.written), status, code)
    (line,) = caplog.records
    told = re.search(rb"\r\nx-request-id: ([0-9a-f]{32})\r\n", transport.written)
    assert told is not None
    assert line.name == "mixer.access"
    assert line.getMessage().startswith(f"{request_line} {status} 0.0ms id={told[1].decode()} code={code} detail=")
    assert vars(line)["detail"] == problem
    assert line.getMessage().isprintable()
    assert metrics.samples()[f'mixer_requests_total{{endpoint="other",status="{status}"}}'] == 1
    assert metrics.samples()[f'mixer_errors_total{{code="{code}",endpoint="other"}}'] == 1


async def test_its_line_belongs_to_no_request_before_it(caplog: pytest.LogCaptureFixture) -> None:
    logged: list[Trace | None] = []

    def notes_its_trace(record: logging.LogRecord) -> bool:
        logged.append(CURRENT.get())
        return True

    caplog.handler.addFilter(notes_its_trace)
    connection, _ = connected(Application())
    CURRENT.set(Trace(SpanId(1, 2), None, 0.0, list))  # as where that one has called for more to be read
    with caplog.at_level(logging.INFO):
        connection.data_received(REFUSALS["no HTTP"][0])
    connection.connection_lost(None)
    assert logged == [None]


@in_virtual_time
async def test_below_the_path_of_another_protocol_a_connection_refuses_in_its_words() -> None:
    rebalancer = ConnectionRebalancer(lambda: 3)
    crowded = connected(Application(), rebalancer=rebalancer, most=3)
    unframed = connected(Listing())
    head = b"POST /v2/models/a/infer HTTP/1.1\r\nHost: service\r\n"
    for (connection, transport), rest, status, words in (
        (crowded, b"Content-Length: 0\r\n\r\n", 503, "more than 2 connections"),
        (unframed, b"Transfer-Encoding: gzip\r\n\r\n", 501, "chunked"),
    ):
        connection.data_received(head + rest)
        await settled()
        told, _, body = transport.written.partition(b"\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\ncontent-type: application/json\r\n" in told + b"\r\n"
        problem = json.loads(body)
        assert words in problem["error"]
        assert (problem["error"], problem["status"]) == (problem["detail"], status)


async def test_a_refusal_gives_a_harmless_request_id_back() -> None:
    connection, transport = connected(Listing())
    connection.data_received(b"GET / HTTP/1.1\r\nX-Request-Id: r-7\r\n\r\n")
    assert b"\r\nx-request-id: r-7\r\n" in transport.written


BAD_BODIES = {
    "what is no chunk": (b"zz\r\n", 400, "bad_request"),
    "too many chunks": (b"1\r\na\r\n" * 1100, 400, "bad_request"),
    "an endless extension": (b"1;" + b"a" * MAX_HEAD_BYTES, 431, "head_too_large"),
}


@pytest.mark.parametrize(("rest", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_request_whose_body_is_refused_has_that_in_its_one_line(
    rest: bytes, status: int, code: str, has_begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ClientGone

    metrics = WatchedMetrics()
    connection, transport = connected(Access(app, metrics), metrics=metrics)
    with caplog.at_level(logging.INFO):
        connection.data_received(b"POST /x HTTP/1.1\r\nHost: a\r\n" + CHUNKED[:-5])
        if has_begun:
            await settled()
        connection.data_received(rest)
        await settled()
    (line,) = caplog.records
    assert re.match(rf"POST /x {status} [0-9.]+ms id=(\w+) code={code} detail=", line.getMessage())
    assert vars(line)["request_id"].encode() in transport.written
    requests = {name: one for name, one in metrics.samples().items() if name.startswith("mixer_requests_total")}
    assert requests == {f'mixer_requests_total{{endpoint="other",status="{status}"}}': 1}
    connection.connection_lost(None)


# --- the last answer ---

LAST = b"POST / HTTP/1.1\r\nHost: service\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"


class Hasty:
    """Answers before it has read the body."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body"})


@pytest.mark.parametrize("half_closes", [True, False])
async def test_an_early_answer_that_ends_a_connection_does_not_cut_off_the_body(*, half_closes: bool) -> None:
    """The system would answer what arrives afterwards by a reset, and the client might see nothing else."""
    connection, transport = connected(Hasty(), half_closes=half_closes)
    connection.data_received(LAST + b"12")
    await settled()
    assert b" 413 " in transport.written
    assert b"connection: close" in transport.written
    assert (transport.said_all, transport.is_closing()) == (half_closes, False)
    connection.data_received(b"34")
    assert not transport.is_closing()
    connection.data_received(b"5")
    assert transport.is_closing()


async def test_once_the_body_is_there_it_ends_at_once() -> None:
    connection, transport = connected(Hasty())
    connection.data_received(LAST + b"12345")
    await settled()
    assert (transport.said_all, transport.is_closing()) == (False, True)


async def test_an_answer_of_http_1_0_ends_its_connection_too() -> None:
    connection, transport = connected(Hasty())
    connection.data_received(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n")
    await settled()
    assert transport.said_all
    connection.data_received(b"12345")
    assert transport.is_closing()


@in_virtual_time
async def test_a_body_that_nobody_wants_is_not_waited_for_for_ever() -> None:
    connection, transport = connected(Hasty())
    connection.data_received(LAST)
    await settled()
    for second in range(1, KEEP_ALIVE_S + 1):
        asyncio.get_running_loop().call_at(second - 0.5, connection.data_received, b"1"[: second % 2])
    await transport.ended.wait()
    assert now() == KEEP_ALIVE_S


@in_virtual_time
@pytest.mark.parametrize("told", ["before", "afterwards"])
async def test_when_the_server_ends_it_is_waited_for_a_second(told: str) -> None:
    connection, transport = connected(Hasty())
    connection.data_received(LAST)
    if told == "before":
        connection.shutdown()
    await settled()
    if told == "afterwards":
        connection.shutdown()
    assert not transport.is_closing()
    await transport.ended.wait()
    assert now() == 1.0


async def test_a_body_of_which_too_much_had_arrived_is_read_on_and_thrown_away() -> None:
    connection, transport = connected(Hasty())
    connection.data_received(LAST.replace(b" 5", b" 200000") + bytes(100_000))
    assert not transport.reading
    await settled()
    assert transport.reading
    connection.data_received(bytes(100_000))
    assert transport.is_closing()


@pytest.mark.parametrize("junk", [b"zz\r\n", b"5;" + bytes(b"a" * 70_000)])
async def test_what_comes_after_the_last_answer_gets_none(junk: bytes) -> None:
    connection, transport = connected(Hasty())
    connection.data_received(LAST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
    await settled()
    written = transport.written
    connection.data_received(junk)
    assert transport.is_closing()
    assert transport.written == written


async def test_a_request_sent_behind_the_last_is_not_begun() -> None:
    app = Application()
    connection, transport = connected(app)
    connection.data_received(LAST + b"12345" + REQUEST)
    await app.release()
    assert (app.begun, transport.written.count(b"HTTP/1.1 ")) == (1, 1)
    assert transport.is_closing()


# --- hang-ups ---


class FakeDepartures:
    """Remembers who is watched."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], object]] = {}

    def watch(self, file: int, listener: Callable[[], object]) -> None:
        assert file not in self.watched
        self.watched[file] = listener

    def forget(self, file: int) -> None:
        self.watched.pop(file, None)


async def test_while_nothing_is_read_a_hang_up_is_watched_for() -> None:
    app, hangup_watcher = Application(), FakeDepartures()
    with socket.socket() as own:
        file = own.fileno()
        connection, transport = connected(app, hangup_watcher, socket=own)
        connection.data_received(REQUEST)
        assert not hangup_watcher.watched
        connection.data_received(REQUEST)
        assert list(hangup_watcher.watched) == [file]
        await app.release()
        assert not hangup_watcher.watched
        await app.release()
        connection.data_received(b"POST / HTTP/1.1\r\nHost: service\r\nContent-Length: 100000\r\n\r\n")
        await settled()  # it waits for the body
        connection.data_received(bytes(100_000))
        assert list(hangup_watcher.watched) == [file]
        await settled()
        hangup_watcher.watched[file]()
        assert transport.aborted
        connection.connection_lost(None)
        assert not hangup_watcher.watched
    assert [scope[DISCONNECT].is_set for scope in app.scopes] == [False, False, True]
    await app.release()


async def test_pictures_sent_ahead_by_a_client_that_goes_are_counted() -> None:
    metrics = WatchedMetrics()
    connection, _ = connected(Application(), gate=Gate(None, metrics, 30))
    for path in (b"/classify", b"/classify", b"/classify/batch", b"/model"):
        connection.data_received(b"POST %b HTTP/1.1\r\nHost: service\r\nContent-Length: 0\r\n\r\n" % path)
    connection.data_received(b"GET /classify HTTP/1.1\r\nHost: service\r\n\r\n")
    connection.connection_lost(None)
    assert metrics.samples()['mixer_dropped_total{reason="client_gone",stage="receive"}'] == 2


async def test_a_request_that_is_not_answered_is_told_of_a_lost_connection() -> None:
    app = Application()
    connection, _ = connected(app)
    connection.data_received(REQUEST)
    await settled()
    assert [scope[DISCONNECT].is_set for scope in app.scopes] == [False]
    connection.connection_lost(None)
    assert [scope[DISCONNECT].is_set for scope in app.scopes] == [True]
    await app.release()


async def test_one_that_was_answered_is_not() -> None:
    app = Application()
    connection, _ = connected(app)
    for _ in range(2):
        connection.data_received(REQUEST)
        await app.release()
    connection.data_received(REQUEST)
    await settled()
    connection.connection_lost(ConnectionResetError())
    assert [scope[DISCONNECT].is_set for scope in app.scopes] == [False, False, True]
    await app.release()


async def test_of_requests_sent_ahead_the_one_under_way_is_told_and_the_others_never_begin() -> None:
    app = Application()
    connection, _ = connected(app)
    connection.data_received(REQUEST * 3)
    await app.release()
    connection.connection_lost(None)
    assert [scope[DISCONNECT].is_set for scope in app.scopes] == [False, True]
    await app.release()
    assert app.begun == 2


# --- a crowd ---


@in_virtual_time
async def test_who_comes_beyond_the_most_connections_is_refused_while_they_are_there() -> None:
    app, held = Application(), [2]
    rebalancer = ConnectionRebalancer(lambda: held[0])
    (before, first), (last, second) = (connected(app, rebalancer=rebalancer, most=3) for _ in range(2))
    held[0] = 3
    (late, third), (later, fourth) = (connected(app, rebalancer=rebalancer, most=3) for _ in range(2))
    before.data_received(REQUEST)
    await app.release()
    assert b" 204 " in first.written  # it was there before
    late.data_received(REQUEST)
    await settled()
    expect_problem_body(problem_in(third.written), 503, "too_many_connections", "more than 2 connections")
    assert third.is_closing()
    held[0] = 2
    for connection in (last, later):
        connection.data_received(REQUEST)
        await app.release()
    assert b" 204 " in second.written
    assert b" 204 " in fourth.written  # there is room by now
    assert app.begun == 3


@in_virtual_time
async def test_of_a_crowd_as_many_leave_as_are_too_many_each_with_its_answer() -> None:
    app, rebalancer = Application(), ConnectionRebalancer()
    rebalancer.excess_connections = 1
    connections = [connected(app, rebalancer=rebalancer) for _ in range(2)]
    for connection, _ in connections:
        connection.data_received(REQUEST)
        await app.release()
    (_, first), (_, second) = connections
    assert b"connection: close" in first.written
    assert first.is_closing()
    assert b"connection: close" not in second.written
    assert not second.is_closing()
    assert rebalancer.excess_connections == 0


@in_virtual_time
async def test_whoever_sends_ahead_stays_in_the_crowd() -> None:
    app, rebalancer = Application(), ConnectionRebalancer()
    connection, transport = connected(app, rebalancer=rebalancer)
    connection.data_received(REQUEST * 2)
    for _ in range(2):
        await app.release()
    rebalancer.excess_connections = 1
    connection.data_received(REQUEST)
    await app.release()
    assert transport.written.count(b"HTTP/1.1 204") == 3
    assert not transport.is_closing()
    assert rebalancer.excess_connections == 1
