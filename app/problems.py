"""Errors -> RFC 9457 answers. A client never sees a traceback."""

from typing import Any

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from app.errors import ServiceError
from app.schemas import Problem

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:mixer-serve:"
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")  # of which an endpoint has some


def problem(status: int, code: str, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """One problem+json answer."""
    return Response(body(status, code, title, detail), status, headers, MEDIA_TYPE)


def body(status: int, code: str, title: str, detail: str) -> bytes:
    """The JSON of one."""
    return to_json({"type": _TYPE_PREFIX + code, "title": title, "status": status, "detail": detail, "code": code})


def of(error: ServiceError) -> Response:
    """The answer to an error that the service raised on purpose."""
    return problem(error.status, error.code, error.title, error.detail, error.headers)


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These answers as OpenAPI describes them."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": "RFC 9457 problem", "content": content} for status in statuses}


# Handlers of exceptions are coroutines: Starlette starts a thread for any that is not.


async def from_service_error(request: Request, error: Exception) -> Response:
    """An error that the service raised on purpose."""
    assert isinstance(error, ServiceError)  # noqa: S101 -- it is registered for nothing else
    return of(error)


async def from_http_exception(request: Request, error: Exception) -> Response:
    """No such path, or no such method on it."""
    assert isinstance(error, HTTPException)  # noqa: S101 -- it is registered for nothing else
    known = {404: ("not_found", "Not found"), 405: ("method_not_allowed", "Method not allowed")}
    code, title = known.get(error.status_code, ("http_error", "HTTP error"))
    path = request.scope["path"]
    headers, methods = dict(error.headers or {}), _methods_of(request.scope, path)
    if methods:
        headers["Allow"] = ", ".join(methods)
        detail = f"{request.method} {path} is not served here; expected {' or '.join(methods)}."
    elif _methods_of(request.scope, _plain(path)):
        detail = f"{path} is not served here; expected {_plain(path)}, exactly."
    else:
        detail = f"{request.method} {path} is not served here; GET /docs lists what is."
    return problem(error.status_code, code, title, detail, headers)


def _methods_of(scope: Scope, path: str) -> list[str]:
    """With which methods the application of this scope serves the path."""
    routes = scope["app"].routes if "app" in scope else ()
    asked = ({**scope, "path": path, "method": method} for method in _METHODS)
    return [one["method"] for one in asked if any(route.matches(one)[0] is Match.FULL for route in routes)]


def _plain(path: str) -> str:
    """In small letters, without slashes that are too many."""
    return "/" + "/".join(part for part in path.lower().split("/") if part)


def internal_error() -> Response:
    """Something the service did not expect; its log has the rest."""
    return problem(500, "internal_error", "Internal error", "The service failed on this request; its log says why.")
