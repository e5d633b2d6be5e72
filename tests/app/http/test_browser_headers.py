"""Every answer says that it is to be taken for what it is."""

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app.http.browser_headers import PageHeaders
from tests.app.asgi import AsgiCall
from tests.app.color_bundle import RED, image
from tests.app.in_process import Serve

STRICT = "default-src 'none'; frame-ancestors 'none'"
PAGES = {"referrer-policy": "no-referrer", "x-frame-options": "DENY"}
ANSWERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


def shown(answer: Any, names: dict[str, str]) -> dict[str, str]:
    return {name: ", ".join(answer.headers.get_list(name)) for name in names}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/classify", image(RED), 200),
        ("POST", "/classify", b"no picture", 400),
        ("POST", "/classify?top_k=x", image(RED), 422),
        ("POST", "/classify/batch", image(RED), 415),
        ("GET", "/model", None, 200),
        ("GET", "/health/live", None, 200),
        ("GET", "/health/ready", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/openapi.json", None, 200),
        ("GET", "/docs", None, 200),
        ("GET", "/docs/docs.js", None, 200),
        ("GET", "/", None, 200),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/classify", None, 405),
    ],
)
async def test_no_answer_is_guessed_at_or_kept(
    method: str, path: str, content: bytes | None, status: int, serve: Serve
) -> None:
    async with serve() as service:
        answer = await service.http.request(method, path, content=content)
    assert answer.status_code == status
    assert shown(answer, ANSWERS) == ANSWERS


@pytest.mark.parametrize("path", ["/model", "/metrics", "/health/ready", "/openapi.json", "/nothing", "/"])
async def test_what_a_browser_may_show_can_neither_be_framed_nor_load_anything(path: str, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.get(path)
    assert shown(answer, PAGES) == PAGES
    assert answer.headers.get_list("content-security-policy") == [STRICT]


async def test_what_is_no_start_of_an_answer_is_left_alone() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body"})

    call = AsgiCall("/x", method="GET")
    await call.go(PageHeaders(app))
    start, body = call.sent
    assert start["headers"][0] == (b"a", b"b")
    assert [name for name, _ in start["headers"][1:]] == [
        b"referrer-policy",
        b"x-frame-options",
        b"content-security-policy",
    ]
    assert body == {"type": "http.response.body"}
