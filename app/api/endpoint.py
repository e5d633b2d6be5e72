"""Adds an endpoint to FastAPI with all that the OpenAPI document says of it. Knows none of the endpoints."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from app.api import security
from app.api.openapi import Responses

Guard = Callable[[Request], Awaitable[None]]


class _OnlyDescribed(APIRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return Match.NONE, {}


class Operation(NamedTuple):
    """What the document says of an endpoint. `extra`: what FastAPI does not know of it: parameters, a body."""

    operation_id: str
    summary: str
    tag: str
    responses: Responses
    extra: Mapping[str, Any] = {}


def add(
    router: APIRouter,
    path: str,
    handler: Callable[..., Any],
    operation: Operation,
    *,
    method: str = "GET",
    description: str | None = None,
    body: Any = None,
    response_class: type[Response] | None = None,
    needs_key: bool | None = None,
    guard: Guard | None = None,
    only_described: bool = False,
) -> None:
    """`body`: the type of a JSON answer, where `handler` makes no response itself. `description`: else its docstring.

    `needs_key`: whether the document asks for a key; None where one is of no use. `guard`: refuses who may not enter.
    `only_described`: whether no request is routed to it, as some that are none of its own would fit its path.
    """
    schemes = [] if needs_key is None else security.either()
    options: dict[str, Any] = {} if response_class is None else {"response_class": response_class}
    router.add_api_route(
        path,
        handler,
        methods=[method],
        response_model=body,
        summary=operation.summary,
        description=description,
        operation_id=operation.operation_id,
        responses=operation.responses,
        tags=[operation.tag],
        dependencies=schemes if guard is None else [*schemes, Depends(guard)],
        route_class_override=_OnlyDescribed if only_described else None,
        openapi_extra={**operation.extra, **security.or_none(needed=needs_key is not False)},
        **options,
    )
