"""GET /ping, as TorchServe and SageMaker ask whether a service is ready, and Vertex AI at a path of its own."""

from collections.abc import Awaitable, Callable

from fastapi import Request
from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import HEALTH
from app.dialects import forms
from app.dialects.descriptions import answered_as
from app.dialects.dialect import Dialect, Info
from app.dialects.serving import Serving
from app.serving.health import Health

_JSON = "application/json"
_STATUS = {"type": "object", "properties": {"status": {"type": "string", "enum": ["Healthy", "Unhealthy"]}}}
_HEALTHY, _UNHEALTHY = {"status": "Healthy"}, {"status": "Unhealthy"}


def dialect(serving: Serving) -> Dialect:
    """GET /ping."""
    return Dialect(info=(info("/ping", "ping", serving.health),))


def info(path: str, operation_id: str, health: Health) -> Info:
    """What is told of the service's health at a path, without a key."""
    unhealthy = {"description": "Not ready", "content": {_JSON: {"schema": _STATUS, "example": _UNHEALTHY}}}
    responses = answered_as(_STATUS, _HEALTHY, forms.TORCHSERVE, pictures=False) | {503: unhealthy}
    operation = Operation(operation_id, "Whether the service is ready", HEALTH, responses)
    return Info(path, operation, _asked(health), needs_key=False)


def _asked(health: Health) -> Callable[[Request], Awaitable[Response]]:
    async def ping(request: Request) -> Response:
        """200 or 503, as /health/ready, which has the reason."""
        if not health.is_ready():
            return Response(to_json(_UNHEALTHY), 503, media_type=_JSON)
        return Response(to_json(_HEALTHY), media_type=_JSON)

    return ping
