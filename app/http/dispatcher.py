"""Endpoints that are called past FastAPI's machinery, which still describes them. Knows nothing of what they do.

Its middleware, routing and dependencies take about as long as all of the service's own work on a small picture.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BadParameter, ServiceError, forget_frames
from app.http import problems
from app.system.spelling import nearest

NOTHING_IS_FETCHED = (
    "URLs and base64 text are not taken: send the picture's bytes as the body, or as the multipart field 'file'."
)
_ADDRESSES = ("url", "uri", "image_url", "imageurl", "image", "src", "link")
_SHOWN = 64  # characters of a name


class AsgiEndpoint:
    """One endpoint `async (request, **parameters) -> Response` as an application, its parameters from the query.

    A ServiceError becomes its answer; a parameter that is not of its type in `types` becomes 422, as does one
    that is none of them.
    """

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **types: Any) -> None:
        self.path = path
        self._endpoint = endpoint
        self._types = {name: TypeAdapter[Any](kind) for name, kind in types.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        scope["route"] = self
        request = Request(scope, receive, send)
        try:
            response = await self.answer(request)
        except ServiceError as error:
            response = problems.of(error)
            forget_frames(error)
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """What the endpoint answers, which FastAPI describes and may call, too. Raises ServiceError."""
        query: bytes = request.scope["query_string"]
        return await self._endpoint(request, **self._parameters(query) if query else {})

    def _parameters(self, query: bytes) -> dict[str, Any]:
        """Of several of one name the last."""
        given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        expect_known(given, self._types)
        return {name: _read(name, given[name], kind) for name, kind in self._types.items() if name in given}


class Application(FastAPI):
    """FastAPI, except that requests with a shortcut are taken before it sees them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._direct_routes: dict[tuple[str, str], ASGIApp] = {}

    def add_direct_route(self, method: str, path: str, app: ASGIApp) -> None:
        """Let `app` answer exactly these requests."""
        self._direct_routes[method, path] = app

    def wrap_direct_routes(self, middleware: Callable[[ASGIApp], ASGIApp]) -> None:
        """Put something around every shortcut that there is."""
        self._direct_routes = {request: middleware(app) for request, app in self._direct_routes.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan."""
        route = self._direct_routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is not None:
            await route(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def expect_known(given: Iterable[str], known: Iterable[str]) -> None:
    """Raises BadParameter for the first name of the query that is none of those known."""
    names = tuple(known)
    for name in given:
        if name in names:
            continue
        expected = nearest(name, names) or " or ".join(names) or "no parameter"
        detail = f"The query has {name[:_SHOWN]!r}; expected {expected}."
        raise BadParameter(f"{detail} {NOTHING_IS_FETCHED}" if name.lower() in _ADDRESSES else detail)


def _read(name: str, value: str, kind: TypeAdapter[Any]) -> Any:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        raise BadParameter(f"{name} is {value!r}: {error.errors()[0]['msg']}.") from error
