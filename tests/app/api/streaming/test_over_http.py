"""A stream over a real connection: lines come while the body is on its way, and a service that ends says so."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.api.streaming.test_endpoint import PATH, PICTURES, lines_of
from tests.app.api.streaming.test_tar import tar_of
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import Server, connect, free_port, read_until

pytestmark = pytest.mark.process
HEAD = (
    f"POST {PATH}?top_k=1 HTTP/1.1\r\nHost: service\r\nContent-Type: application/x-tar\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
).encode()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("streamed"), color_spec())


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


@pytest.fixture
def server(bundle: Path) -> Iterator[Server]:
    port = free_port()
    command = ("-m", "cli", "serve", "--port", str(port), "--bundle", str(bundle), "--workers", "1")
    with Server(*command, port=port) as started:
        started.wait_until_serving()
        yield started


def test_a_line_comes_before_the_rest_of_the_body_is_sent(server: Server) -> None:
    content = tar_of(PICTURES)
    first = content.index(b"green.png")
    with connect(server.port) as connection:
        connection.sendall(HEAD + chunk(content[:first]))
        head = read_until(connection, b'"red"')
        connection.sendall(chunk(content[first:]) + b"0\r\n\r\n")
        rest = read_until(connection, b"0\r\n\r\n")
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n")  # on the same connection
        assert read_until(connection, b"}").startswith(b"HTTP/1.1 200 ")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"green"' in rest
    assert b'{"end":{"images":3,"failed":0}}\n' in rest


def test_one_that_sends_all_of_it_first_gets_every_line(server: Server) -> None:
    names = [(f"{index:04}-{name}", content) for index, (name, content) in enumerate(PICTURES * 700)]
    url = f"http://127.0.0.1:{server.port}{PATH}?top_k=1"
    answer = httpx.post(url, content=tar_of(names), headers={"Content-Type": ""}, timeout=100)
    lines, end = lines_of(answer.text)
    assert end == {"images": 2100, "failed": 0}
    assert [line["name"] for line in lines] == [name for name, _ in names]


def test_a_service_that_drains_ends_the_stream_with_what_is_answered(server: Server) -> None:
    content = tar_of(PICTURES)
    first = content.index(b"green.png")
    with connect(server.port) as connection:
        connection.sendall(HEAD + chunk(content[:first]))
        read_until(connection, b'"red"')
        server.signal(signal.SIGTERM)
        rest = read_until(connection, b"}}}")  # though no more of the body comes
    assert server.exit_code() == 0
    end = json.loads(rest[rest.index(b'{"end"') : rest.index(b"}}}") + 3])["end"]
    assert (end["images"], end["error"]["code"]) == (1, "not_ready")
