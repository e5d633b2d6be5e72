"""Whatever a request says of other addresses, the service connects to none of them."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.app.color_bundle import RED, image
from tests.app.servers import PATIENCE_S, Server
from tests.faults.wire import BOUNDARY, FORM

pytestmark = pytest.mark.process


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    """A socket that notices everybody who comes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


def address_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/picture.png"


def has_been_visited(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def ask(service: Server, path: str, body: bytes | None = None, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{service.port}{path}", body, named)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def form(name: str, filename: str | None, content: bytes) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    part = f"--{BOUNDARY.decode()}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    return part + content + b"\r\n--" + BOUNDARY + b"--\r\n"


def test_the_socket_elsewhere_does_notice_who_comes(elsewhere: socket.socket) -> None:
    with socket.create_connection(elsewhere.getsockname(), timeout=PATIENCE_S):
        assert has_been_visited(elsewhere)
    assert not has_been_visited(elsewhere)


@pytest.mark.parametrize(
    "content_type", ["image/svg+xml", "text/uri-list", "application/json", "image/png", "text/html"]
)
def test_a_body_that_names_an_address_is_no_picture(
    content_type: str, service: Server, elsewhere: socket.socket
) -> None:
    address = address_of(elsewhere)
    for body in (
        address.encode(),
        json.dumps({"url": address, "image_url": {"url": address}}).encode(),
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}" width="9" height="9"/></svg>'.encode(),
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "{address}">]><svg>&e;</svg>'.encode(),
        f'<img src="{address}">'.encode(),
        f"push graphic-context\nimage over 0,0 0,0 '{address}'\npop graphic-context".encode(),
        f"#EXTM3U\n{address}\n".encode(),
    ):
        assert ask(service, "/classify", body, Content_Type=content_type) in {400, 415}
    assert not has_been_visited(elsewhere)


def test_a_form_that_names_an_address_fetches_nothing(service: Server, elsewhere: socket.socket) -> None:
    address = address_of(elsewhere)
    for path in ("/classify", "/classify/batch"):
        for body in (
            form("url", None, address.encode()),
            form("file", None, address.encode()),
            form("file", address, address.encode()),
            form("file", address, image(RED)),
        ):
            assert ask(service, path, body, Content_Type=FORM.decode()) in {200, 400, 422}
    assert not has_been_visited(elsewhere)


@pytest.mark.parametrize("name", ["url", "image_url", "src", "callback", "webhook", "file", "model", "top_k"])
def test_a_query_that_names_an_address_fetches_nothing(name: str, service: Server, elsewhere: socket.socket) -> None:
    query = f"?{name}={quote(address_of(elsewhere), safe='')}"
    assert ask(service, f"/classify{query}", image(RED), Content_Type="image/png") in {200, 404, 422}
    assert ask(service, f"/classify{query}", b"", Content_Type="image/png") in {400, 404, 422}
    assert ask(service, f"/model{query}") in {200, 404, 422}
    assert not has_been_visited(elsewhere)


@pytest.mark.parametrize(
    "name", ["Referer", "Origin", "X-Forwarded-Host", "Content-Location", "Link", "X-Callback-Url"]
)
def test_a_header_that_names_an_address_fetches_nothing(name: str, service: Server, elsewhere: socket.socket) -> None:
    headers = {name: address_of(elsewhere), "Content_Type": "image/png"}
    assert ask(service, "/classify", image(RED), **headers) == 200
    assert not has_been_visited(elsewhere)
