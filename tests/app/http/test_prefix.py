"""Behind a prefix everything that goes out has it, and no path inside the service does."""

import http.client
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from app.http.forwarded import behind
from app.http.prefix import OWN_PATHS, is_prefix, prefix_of
from tests.app.color_bundle import RED, image
from tests.app.in_process import Serve, Service
from tests.app.problem_answers import expect_problem
from tests.app.servers import PATIENCE_S, Server, free_port

PROXY = "192.0.2.1"
BROWSER = {"accept": "text/html"}  # others are not sent to the documentation


def client_of(service: Service, root_path: str = "", peer: str = PROXY) -> httpx.AsyncClient:
    """As the server makes it: its application behind a proxy that is trusted."""
    transport = httpx.ASGITransport(behind(PROXY, service.app, root_path), client=(peer, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://service")


@asynccontextmanager
async def served_below(serve: Serve, root_path: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(root_path=root_path, page=False) as service, client_of(service, root_path) as http:
        yield http


async def seen(
    *forwarded: bytes, path: str = "/classify", peer: str | None = PROXY, root_path: str = ""
) -> tuple[str, str]:
    """The path and the prefix that the application gets."""
    found: list[tuple[str, str]] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        found.append((scope["path"], prefix_of(scope)))

    client = None if peer is None else (peer, 1)
    headers = [(b"x-forwarded-prefix", value) for value in forwarded]
    scope: Any = {"type": "http", "scheme": "http", "path": path, "headers": headers, "client": client}
    await behind(PROXY, application, root_path)(scope, None, None)  # type: ignore[arg-type]
    return found[0]


# --- which prefix ---


@pytest.mark.parametrize(
    ("forwarded", "prefix"),
    [
        ([], ""),
        ([b"/mixer"], "/mixer"),
        ([b"/mixer/"], "/mixer"),
        ([b"/vision/mixer"], "/vision/mixer"),
        ([b"/outer, /inner/"], "/outer/inner"),
        ([b"/outer", b"/inner"], "/outer/inner"),
        ([b"/"], ""),
    ],
)
async def test_a_trusted_proxy_says_the_prefix(forwarded: list[bytes], prefix: str) -> None:
    assert await seen(*forwarded) == ("/classify", prefix)


@pytest.mark.parametrize(
    "forwarded",
    [
        b"mixer",
        b"//evil.example",
        b"/a//b",
        b"/\\evil.example",
        b"/a\r\nset-cookie: b=c",
        b"/a/../b",
        b"/.",
        b"/a b",
        b"/a%2f",
        b"/a?b",
        b"/a#b",
        b"/\xc3\xa4",
        b'/"><script>',
        b"https://evil.example/a",
        b"/a, b",
        b"/" + b"x" * 256,
        b"/x" * 50_000,
        b"," * 50_000,
    ],
)
@pytest.mark.parametrize("root_path", ["", "/vision"])
async def test_what_is_no_path_of_plain_names_is_no_prefix(forwarded: bytes, root_path: str) -> None:
    assert await seen(forwarded, root_path=root_path) == ("/classify", root_path)


@pytest.mark.parametrize("peer", ["203.0.113.9", None])
async def test_nobody_else_says_it(peer: str | None) -> None:
    assert await seen(b"/mixer", peer=peer) == ("/classify", "")


async def test_a_proxy_that_says_it_has_taken_it_off_the_path() -> None:
    assert await seen(b"/classify", path="/classify/batch") == ("/classify/batch", "/classify")


async def test_what_a_proxy_says_wins_over_the_settings() -> None:
    assert await seen(b"/mixer", root_path="/vision") == ("/classify", "/mixer")


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/vision/classify", "/classify"),
        ("/classify", "/classify"),
        ("/vision/", "/"),
        ("/vision/vision/classify", "/vision/classify"),
        ("/visionclassify", "/visionclassify"),
        ("/vision", "/vision"),
    ],
)
async def test_with_a_root_path_paths_may_have_it_or_not(path: str, inside: str) -> None:
    assert await seen(path=path, root_path="/vision") == (inside, "/vision")


async def test_the_first_name_of_every_path_of_the_service_is_known(serve: Serve) -> None:
    async with serve() as service:
        paths = (await service.http.get("/openapi.json")).json()["paths"]
    first = {path.split("/")[1] for path in [*paths, "/docs", "/openapi.json", "/page"]}
    assert first - {"{model}", ""} == OWN_PATHS  # what stands for a model stands for none of these


def test_the_longest_prefix() -> None:
    assert is_prefix("/" + "x" * 255)
    assert not is_prefix("/" + "x" * 256)


# --- what goes out ---


@pytest.mark.parametrize("before", ["", "/mixer"], ids=["taken off", "left on"])
async def test_with_a_root_path_everything_is_answered_with_it_and_without_it(before: str, serve: Serve) -> None:
    async with served_below(serve, "/mixer") as http:
        for path in ("/classify", "/classify?top_k=1"):
            answer = await http.post(before + path, content=image(RED))
            assert answer.json()["predictions"][0]["label"] == "red"
        for path in ("/model", "/models", "/health/live", "/health/ready", "/metrics", "/docs", "/docs/docs.js"):
            assert (await http.get(before + path)).status_code == 200
        root = await http.get(before + "/", headers=BROWSER)
        assert root.headers["location"] == "/mixer/docs"
        document = (await http.get(before + "/openapi.json")).json()
        assert document["servers"] == [{"url": "/mixer"}]
        nothing = await http.get(before + "/nothing")
        words = "GET /mixer/nothing is not served here; GET /mixer/docs lists what is."
        expect_problem(nothing, 404, "not_found", words)
        almost = await http.get(before + "/model/")
        expect_problem(almost, 404, "not_found", "/mixer/model/ is not served here; expected /mixer/model, exactly.")
        wrong = await http.get(before + "/classify")
        expect_problem(wrong, 405, "method_not_allowed", "GET /mixer/classify is not served here; expected POST.")


async def test_the_prefix_of_one_request_is_none_of_the_next(serve: Serve) -> None:
    async with serve(page=False) as service, client_of(service) as http:
        for prefix in ("/one", "/two"):
            headers = {"x-forwarded-prefix": prefix, "host": "elsewhere.example"}
            assert (await http.get("/", headers={**headers, **BROWSER})).headers["location"] == f"{prefix}/docs"
            assert (await http.get("/openapi.json", headers=headers)).json()["servers"] == [{"url": prefix}]
        assert (await http.get("/", headers=BROWSER)).headers["location"] == "docs"
        assert (await http.get("/openapi.json")).json()["servers"][0]["url"] == "."


async def test_of_whom_is_not_trusted_nothing_goes_out(serve: Serve) -> None:
    async with serve(page=False) as service, client_of(service, peer="203.0.113.9") as http:
        answer = await http.get("/", headers={"x-forwarded-prefix": "/evil", **BROWSER})
    assert answer.headers["location"] == "docs"


# --- the server ---


def location(server: Server, path: str, forwarded: str) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    with closing(connection):
        connection.request("GET", path, headers={"X-Forwarded-Prefix": forwarded, **BROWSER})
        return connection.getresponse().getheader("location")


@pytest.mark.process
def test_a_server_believes_a_proxy_on_this_machine_and_its_setting(bundle: Path) -> None:
    port = free_port()
    flags = (
        "--port",
        str(port),
        "--bundle",
        str(bundle),
        "--workers",
        "1",
        "--instances",
        "1",
        "--root-path",
        "/vision/",
        "--page",
        "false",
    )
    with Server("-m", "cli", "serve", *flags, port=port) as server:
        server.wait_until_serving()
        assert location(server, "/", "/mixer") == "/mixer/docs"
        assert location(server, "/", "//evil.example") == "/vision/docs"
        assert location(server, "/vision/", "") == "/vision/docs"
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/vision/classify", image(RED), {"Content-Type": "image/png"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            assert json.load(answer)["predictions"][0]["label"] == "red"
