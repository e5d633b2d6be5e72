"""The application, with endpoints that are called past FastAPI's machinery, which still describes them.

Its middleware, routing and dependencies take about as long as all of the service's own work on a small picture. Knows
nothing of what the endpoints do.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BadParameter, ServiceError, forget_frames
from app.http import problems
from app.http.in_flight import InFlight
from app.http.prefix import OWN_PATHS
from app.http.problems import PROBLEM_JSON, Form
from app.system.spelling import nearest

HELD = "mixer.held"  # in the scope of a request: what is to be released, by its release(), once it is answered
NOTHING_IS_FETCHED = (
    "URLs and base64 text are not taken: send the picture's bytes as the body, or as the multipart field 'file'."
)
_ADDRESSES = ("url", "uri", "image_url", "imageurl", "image", "src", "link")
_SHOWN = 64  # characters of a name
_OWN = "|".join(map(re.escape, sorted(OWN_PATHS)))


@dataclass(frozen=True)
class Parameter:
    """One parameter of the query: how it is read, and how OpenAPI describes it. `schema`: JSON Schema of its value."""

    name: str
    kind: Any
    description: str
    schema: dict[str, Any]

    def described(self) -> dict[str, Any]:
        """The parameter in the words of OpenAPI."""
        return {
            "name": self.name,
            "in": "query",
            "required": False,
            "description": self.description,
            "schema": self.schema,
        }


class AsgiEndpoint:
    """One endpoint `async (request, **parameters) -> Response` as an application, its parameters from the query.

    Its requests are `in_flight` until they are answered. A ServiceError becomes its answer, in this `form`; a parameter
    that is not of its kind becomes 422, as does one that is none of `parameters`; None: the endpoint reads the query
    itself. What the path holds in braces is in the scope's path_params.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Awaitable[Response]],
        parameters: Sequence[Parameter] | None = (),
        in_flight: InFlight | None = None,
        form: Form = PROBLEM_JSON,
    ) -> None:
        self.path, self.form = path, form
        self._endpoint = endpoint
        self._reads_query = parameters is not None
        self._kinds = {parameter.name: TypeAdapter[Any](parameter.kind) for parameter in parameters or ()}
        self._in_flight = in_flight or InFlight()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises ClientGone."""
        scope["route"] = self
        try:
            response = await self.described(Request(scope, receive, send))
        except ServiceError as error:
            response = problems.of(error, self.form)
            forget_frames(error)
        await response(scope, receive, send)

    async def described(self, request: Request) -> Response:
        """What FastAPI describes, and calls for a path that it takes for this one, as one that ends in a line break.

        Raises: ServiceError, ClientGone.
        """
        scope = request.scope
        try:
            with self._in_flight.entered(scope):
                query: bytes = scope["query_string"] if self._reads_query else b""
                return await self._endpoint(request, **(self._parameters(query) if query else {}))
        finally:
            if HELD in scope:
                scope.pop(HELD).release()

    def _parameters(self, query: bytes) -> dict[str, Any]:
        """The parameters of the query; of several with one name the last."""
        given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        expect_known(given, self._kinds)
        return {name: _read(name, given[name], kind) for name, kind in self._kinds.items() if name in given}


class Application(FastAPI):
    """FastAPI, and in front of it the requests that are dispatched to endpoints of their own.

    `form_of`: how errors are told below a path, where the endpoint does not say.
    """

    def __init__(self, form_of: Callable[[str], Form] = lambda path: PROBLEM_JSON, **options: Any) -> None:
        super().__init__(**options)
        self.form_of = form_of
        self._dispatched: dict[tuple[str, str], ASGIApp] = {}
        self._patterns: dict[tuple[str, str], re.Pattern[str]] = {}  # of the paths that hold braces

    def dispatch(self, method: str, path: str, app: ASGIApp) -> None:
        """Let `app` answer exactly these requests. {NAME} in the path stands for anything but a slash.

        As the first part of a path it stands for none that the service's own paths begin with, either.
        """
        self._dispatched[method, path] = app
        if "{" in path:
            self._patterns[method, path] = _pattern(path)

    def wrap_dispatched(self, middleware: Callable[[ASGIApp], ASGIApp]) -> None:
        """Put something around every endpoint that requests are dispatched to."""
        self._dispatched = {request: middleware(app) for request, app in self._dispatched.items()}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        """One request, or the lifespan. No coroutine of its own: each would be entered again with every wait."""
        app = None
        if scope["type"] == "http":
            app = self._dispatched.get((scope["method"], scope["path"])) or self._dispatched_by_pattern(scope)
        return super().__call__(scope, receive, send) if app is None else app(scope, receive, send)

    def pattern_of(self, method: str, path: str) -> str | None:
        """The path, with its {NAME}s, under which a request is dispatched; None where it is not."""
        if (method, path) in self._dispatched:
            return path
        return next((one[1] for one, found in self._matches(method, path)), None)

    def _dispatched_by_pattern(self, scope: Scope) -> ASGIApp | None:
        for request, found in self._matches(scope["method"], scope["path"]):
            scope["path_params"] = found.groupdict()
            return self._dispatched[request]
        return None

    def _matches(self, method: str, path: str) -> Iterator[tuple[tuple[str, str], re.Match[str]]]:
        for request, pattern in self._patterns.items():
            if request[0] == method and (found := pattern.fullmatch(path)) is not None:
                yield request, found


def _pattern(path: str) -> re.Pattern[str]:
    """What matches the paths that `path` stands for, its {NAME}s as groups."""
    parts = re.split(r"{(\w+)}", path)  # plain text and names in turns
    named = "".join(f"(?P<{part}>[^/]+)" if odd % 2 else re.escape(part) for odd, part in enumerate(parts))
    return re.compile(f"(?!/(?:{_OWN})(?:/|$)){named}" if path.startswith("/{") else named)


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
