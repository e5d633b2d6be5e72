"""Endpoints past FastAPI's machinery: they answer what it would have answered."""

import asyncio
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response

from app.errors import BadImage, QueueFull
from app.http import problems
from app.http.dispatcher import Application, AsgiEndpoint, Parameter
from tests.app.asgi import AsgiCall


async def echo(request: Request, number: int | None = None, name: str = "nobody") -> Response:
    return JSONResponse({"number": number, "name": name})


async def refusing(request: Request) -> Response:
    raise QueueFull("The queue is full.", 7)


def call(app: Any, path: str, **options: Any) -> AsgiCall:
    """What `app` answers."""
    asked = AsgiCall(path, **options)
    asked.send_body(b"")
    asyncio.run(asked.go(app))
    return asked


ENDPOINT = AsgiEndpoint("/echo", echo, (Parameter("number", int | None, "", {}), Parameter("name", str, "", {})))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"number": None, "name": "nobody"}),
        ("?number=7", {"number": 7, "name": "nobody"}),
        ("?number=+7&name=a%20b", {"number": 7, "name": "a b"}),
        ("?number=1&number=2", {"number": 2, "name": "nobody"}),
        ("?name=", {"number": None, "name": ""}),
        ("?name=%C3%A4%00", {"number": None, "name": "\N{LATIN SMALL LETTER A WITH DIAERESIS}\0"}),
    ],
)
def test_parameters_come_from_the_query(query: str, expected: dict[str, Any]) -> None:
    answer = call(ENDPOINT, "/echo" + query)
    assert (answer.status, answer.body) == (200, expected)


@pytest.mark.parametrize("value", ["", "x", "2.5", "9" * 5000, "%ff", "1e3"])
def test_a_parameter_that_is_not_of_its_type_gets_422(value: str) -> None:
    answer = call(ENDPOINT, f"/echo?number={value}")
    assert (answer.status, answer.body["code"]) == (422, "bad_parameter")
    assert answer.body["detail"].startswith("number is '")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?numbr=7", "The query has 'numbr'; expected number."),
        ("?number=7&Name=x", "The query has 'Name'; expected name."),
        ("?other", "The query has 'other'; expected number or name."),
        ("?=1", "The query has ''; expected number or name."),
        ("?" + "x" * 999, f"The query has '{'x' * 64}'; expected number or name."),
        (
            "?url=https://shop.example/1.png",
            "The query has 'url'; expected number or name. URLs and base64 text are not taken: send the picture's "
            "bytes as the body, or as the multipart field 'file'.",
        ),
    ],
)
def test_a_parameter_that_is_not_known_gets_422_with_the_nearest_one_that_is(query: str, words: str) -> None:
    answer = call(ENDPOINT, f"/echo{query}")
    assert (answer.status, answer.body["code"], answer.body["detail"]) == (422, "bad_parameter", words)


@pytest.mark.parametrize("kind", [BadImage("It is none."), QueueFull("It is full.", 7)])
def test_a_service_error_becomes_its_answer(kind: Any) -> None:
    async def failing(request: Request) -> Response:
        raise kind

    answer = call(AsgiEndpoint("/fail", failing), "/fail")
    assert (answer.status, answer.body["code"], answer.body["detail"]) == (kind.status, kind.code, kind.detail)
    headers = dict(answer.sent[0]["headers"])
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers.get(b"retry-after") == (b"7" if isinstance(kind, QueueFull) else None)


def test_any_other_error_is_not_its_to_answer() -> None:
    async def failing(request: Request) -> Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(AsgiEndpoint("/fail", failing), "/fail")


def application() -> Application:
    """One path with an endpoint of its own, described by FastAPI as another endpoint: whoever answers can be told."""

    async def described(request: Request, number: int | None = None) -> Response:
        return JSONResponse("described")

    app = Application()
    app.add_api_route("/echo", described, methods=["POST"])
    app.add_api_route("/echo", lambda: "described", methods=["PUT"])
    app.dispatch("POST", "/echo", ENDPOINT)
    return app


@pytest.mark.parametrize(
    ("method", "path", "dispatched"),
    [("POST", "/echo", True), ("POST", "/echo?number=3", True), ("PUT", "/echo", False)],
)
def test_exactly_the_requests_of_an_endpoint_are_dispatched_to_it(method: str, path: str, dispatched: bool) -> None:
    answer = call(application(), path, method=method)
    assert answer.status == 200
    assert (answer.body != "described") == dispatched


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/echo", 405), ("POST", "/echo/more", 404), ("POST", "/Echo", 404)]
)
def test_all_others_are_fastapis(method: str, path: str, status: int) -> None:
    assert call(application(), path, method=method).status == status


def test_dispatching_changes_nothing_of_the_documentation() -> None:
    operation = call(application(), "/openapi.json", method="GET").body["paths"]["/echo"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["number"]


async def test_the_lifespan_is_fastapis() -> None:
    app = application()
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    sent: list[str] = []
    for kind in ("startup", "shutdown"):
        incoming.put_nowait({"type": f"lifespan.{kind}"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, incoming.get, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# --- the same answers ---


async def as_a_problem(request: Request, error: Exception) -> Response:
    """FastAPI's words about the first parameter that is not of its type, as an answer of this service."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    words = f"{first['loc'][-1]} is {first['input']!r}: {first['msg']}."
    return problems.ProblemResponse(problems.Problem(422, "bad_parameter", "Bad parameter", words))


def fastapis_own() -> FastAPI:
    """The same endpoint that nothing is dispatched to."""

    async def endpoint(request: Request, number: int | None = Query(default=None), name: str = "nobody") -> Response:
        return await echo(request, number, name)

    app = FastAPI()
    app.add_api_route("/echo", endpoint, methods=["POST"])
    app.add_exception_handler(RequestValidationError, as_a_problem)
    return app


FASTAPI = fastapis_own()
values = st.one_of(st.integers().map(str), st.text(max_size=6), st.sampled_from(["", " 7 ", "+7", "1_0", "7.0", "٣"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["number", "name"]), values), max_size=3))
def test_any_query_is_answered_as_fastapi_would(pairs: list[tuple[str, str]]) -> None:
    query = "?" + urlencode(pairs, quote_via=quote, errors="replace")
    direct, expected = call(ENDPOINT, "/echo" + query), call(FASTAPI, "/echo" + query)
    assert (direct.status, direct.body) == (expected.status, expected.body)
