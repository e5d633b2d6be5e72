"""Errors -> RFC 9457 answers, or those of another form. A client never sees a traceback."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.errors import ServiceError
from app.http.prefix import prefix_of

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:mixer-serve:"
PROBLEM = "mixer.problem"  # in the scope of a request that gets one: its code and detail
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")  # of which an endpoint has some


class Problem(NamedTuple):
    """What went wrong: the members of RFC 9457, a `code` for programs, and headers of the answer."""

    status: int
    code: str
    title: str
    detail: str
    headers: Mapping[str, str] = {}

    @property
    def members(self) -> dict[str, object]:
        """Those of RFC 9457, and the code."""
        return {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }


class Form(NamedTuple):
    """How a protocol tells its clients of a problem: the JSON of one, its type, and its media type.

    `body`: None for that of a problem itself. `statuses`: its own in place of those of problems, where they differ.
    """

    json: Callable[[Problem], object]
    body: type[BaseModel] | None
    media_type: str = "application/json"
    statuses: Mapping[int, int] = {}

    def status_of(self, status: int) -> int:
        """What the protocol answers a problem of this status with."""
        return self.statuses.get(status, status)


PROBLEM_JSON = Form(lambda problem: problem.members, None, MEDIA_TYPE)


class ProblemResponse(Response):
    """The answer to one problem, which leaves its code and detail in the scope."""

    def __init__(self, problem: Problem, form: Form = PROBLEM_JSON) -> None:
        status, body = status_and_body(problem, form)
        super().__init__(body, status, problem.headers, form.media_type)
        self._problem = problem.code, problem.detail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope[PROBLEM] = self._problem
        await super().__call__(scope, receive, send)


def status_and_body(problem: Problem, form: Form) -> tuple[int, bytes]:
    """The status and the JSON of a problem as a protocol has them."""
    if form.statuses:
        problem = problem._replace(status=form.status_of(problem.status))
    return problem.status, to_json(form.json(problem))


def problem_of(error: ServiceError) -> Problem:
    """What went wrong, by an error that the service raised on purpose."""
    return Problem(error.status, error.code, error.title, error.detail, error.headers)


def of(error: ServiceError, form: Form = PROBLEM_JSON) -> Response:
    """The answer to an error that the service raised on purpose."""
    return ProblemResponse(problem_of(error), form)


# Handlers of exceptions are coroutines: Starlette starts a thread for any that is not.


async def from_service_error(request: Request, error: Exception) -> Response:
    """An error that the service raised on purpose."""
    assert isinstance(error, ServiceError)  # noqa: S101 -- it is registered for nothing else
    return of(error, _form_of(request.scope))


async def from_http_exception(request: Request, error: Exception) -> Response:
    """No such path, or no such method on it."""
    assert isinstance(error, HTTPException)  # noqa: S101 -- it is registered for nothing else
    known = {404: ("not_found", "Not found"), 405: ("method_not_allowed", "Method not allowed")}
    code, title = known.get(error.status_code, ("http_error", "HTTP error"))
    path, prefix = request.scope["path"], prefix_of(request.scope)
    headers, methods = dict(error.headers or {}), _methods_of(request.scope, path)
    if methods:
        headers["Allow"] = ", ".join(methods)
        detail = f"{request.method} {prefix}{path} is not served here; expected {' or '.join(methods)}."
    elif _methods_of(request.scope, _plain(path)):
        detail = f"{prefix}{path} is not served here; expected {prefix}{_plain(path)}, exactly."
    else:
        detail = f"{request.method} {prefix}{path} is not served here; {_whats_served(request.scope, prefix)}."
    return ProblemResponse(Problem(error.status_code, code, title, detail, headers), _form_of(request.scope))


def _methods_of(scope: Scope, path: str) -> list[str]:
    """The methods with which the application of this scope serves the path."""
    routes = scope["app"].routes if "app" in scope else ()
    asked = ({**scope, "path": path, "method": method} for method in _METHODS)
    return [one["method"] for one in asked if any(route.matches(one)[0] is Match.FULL for route in routes)]


def _whats_served(scope: Scope, prefix: str) -> str:
    """Where to look; the port for operators, which has no page for that, has few paths."""
    if "app" not in scope or _methods_of(scope, "/docs"):
        return f"GET {prefix}/docs lists what is"
    return f"expected {' or '.join(prefix + path for path in scope['app'].openapi()['paths'])}"


def _plain(path: str) -> str:
    """The path in lower case, without superfluous slashes."""
    return "/" + "/".join(part for part in path.lower().split("/") if part)


def internal_error(form: Form = PROBLEM_JSON) -> Response:
    """Something the service did not expect; its log has the rest."""
    detail = "The service failed on this request; its log says why."
    return ProblemResponse(Problem(500, "internal_error", "Internal error", detail), form)


def _form_of(scope: Scope) -> Form:
    """That of the protocol whose path it is, as the application of this scope knows them."""
    form: Form = getattr(scope.get("app"), "form_of", lambda path: PROBLEM_JSON)(scope["path"])
    return form
