"""Requests that offer another protocol, or say wrongly where they end: each has one answer, and none hides another.

One of each kind over a real socket; app/test_connections.py has all of them, and every place where they may be cut.
"""

import socket
from collections.abc import Iterator

import pytest

from tests.app.color_bundle import RED, color_spec, image, write_bundle
from tests.app.servers import PATIENCE_S, Server
from tests.faults.wire import Reader, post, served

pytestmark = pytest.mark.process

OFFERS = {
    "h2c": (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    "websocket": (b"Connection: Upgrade", b"Upgrade: websocket"),
    "another": (b"Connection: keep-alive, Upgrade", b"Upgrade: TLS/1.0, foo/2"),
}
IMAGE = image(RED)
HIDDEN = b"GET /model HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bundle = write_bundle(tmp_path_factory.mktemp("framing") / "bundle", color_spec())
    with served(bundle) as running:
        running.wait_until_serving()
        yield running


def answers_to(server: Server, *pieces: bytes, count: int) -> list[int]:
    """The statuses of `count` answers to what is sent piece by piece."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        reader = Reader(connection)
        return [reader.answer().status for _ in range(count)]


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_offer_of_another_protocol_is_passed_over_and_the_body_read(
    server: Server, offer: str, is_chunked: bool
) -> None:
    request = (
        post(chunked(IMAGE), *OFFERS[offer], b"Transfer-Encoding: chunked")
        if is_chunked
        else post(IMAGE, *OFFERS[offer])
    )
    assert answers_to(server, request[:40], request[40:], count=1) == [200]


def test_offers_one_after_another_have_an_answer_each(server: Server) -> None:
    offered, plain = post(IMAGE, *OFFERS["h2c"]), post(IMAGE)
    bodiless = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    ending = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    sent = offered + plain + bodiless + offered + ending
    assert answers_to(server, sent, count=6) == [200, 200, 200, 200, 200, 0]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /classify HTTP/1.1\r\nContent-Length: 0", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1", 400),
        (b"POST /classify HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 501),
        (b"GET /health/live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", 400),
    ],
)
def test_a_request_that_is_framed_wrongly_is_refused_and_ends_the_connection(
    server: Server, head: bytes, status: int
) -> None:
    assert answers_to(server, head + b"\r\n\r\n" + HIDDEN, count=2) == [status, 0]
