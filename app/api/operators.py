"""What operators ask for: /metrics and /admin, on a port of their own or behind a key. Knows nothing of pictures."""

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.accept import VARY, prefers
from app.api.endpoint import Guard, Operation, add
from app.api.openapi import OPERATORS, Responses, answered, described
from app.errors import BadApiKey, DeadlinePassed, Forbidden, NotReady
from app.http.api_keys import ApiKeys
from app.http.in_flight import InFlight
from app.http.request_log import timing_of
from app.serving.reload import Reload, ReloadBody, ReloadRefused
from app.telemetry.metrics import CONTENT_TYPE, OPEN_METRICS, Metrics

_TEXT, _OPEN = (kind.partition(";")[0] for kind in (CONTENT_TYPE, OPEN_METRICS))
_SCRAPED: Responses = {
    200: {
        "description": "In Prometheus' text format, or in that of OpenMetrics where Accept gives it more weight",
        "content": {kind: {"schema": {"type": "string"}} for kind in (_TEXT, _OPEN)},
    }
}
_RELOADED = {"workers": 2, "models": [{"name": "fashion-mnist", "outcome": "swapped", "reason": None}]}

_METRICS = Operation("metrics", "Prometheus metrics", OPERATORS, _SCRAPED | described())
_RELOAD = Operation(
    "reload",
    "Serve the bundles as they are on the disk now",
    OPERATORS,
    answered("What became of every bundle, in every worker", _RELOADED)
    | described(BadApiKey, Forbidden, ReloadRefused, NotReady, DeadlinePassed),
)


@dataclass(frozen=True)
class Operators:
    """The endpoint for operators that only tells. `keys` are theirs; what changes anything always needs one of them."""

    metrics: Metrics
    keys: ApiKeys
    protect_metrics: bool

    def router(self) -> APIRouter:
        """GET /metrics."""
        router = APIRouter()
        if self.protect_metrics:
            operation = _METRICS._replace(responses=_SCRAPED | described(BadApiKey))
            add(
                router, "/metrics", self.scrape, operation,
                response_class=Response, needs_key=True, guard=self.expect_key,
            )  # fmt: skip
        else:
            add(router, "/metrics", self.scrape, _METRICS, response_class=Response)
        return router

    async def scrape(self, request: Request) -> Response:
        """The whole service, all worker processes."""
        if prefers(request.headers.get("accept", ""), _OPEN, _TEXT):
            return Response(self.metrics.render_open_metrics(), media_type=OPEN_METRICS, headers=VARY)
        return Response(self.metrics.render(), media_type=CONTENT_TYPE, headers=VARY)

    async def expect_key(self, request: Request) -> None:
        """Let in who has an operator's key, under its name. Raises Forbidden where there are none, BadApiKey."""
        if not self.keys.locked:
            raise Forbidden("No key for operators is configured; expected MIXER_ADMIN_KEYS or MIXER_ADMIN_KEYS_FILE.")
        headers = request.headers
        timing_of(request.scope).key = self.keys.expect_known(headers.get("authorization"), headers.get("x-api-key"))


class Admin:
    """POST /admin/reload, for whom `guard` lets in."""

    def __init__(self, reload: Reload, in_flight: InFlight, guard: Guard) -> None:
        self._reload = reload
        self._in_flight = in_flight
        self._guard = guard

    def router(self) -> APIRouter:
        """POST /admin/reload."""
        router = APIRouter()
        add(
            router, "/admin/reload", self.reload, _RELOAD,
            method="POST", body=ReloadBody, needs_key=True, guard=self._guard,
        )  # fmt: skip
        return router

    async def reload(self) -> ReloadBody:
        """Answers once every worker has followed; 409 where a bundle is refused, and the old one goes on."""
        with self._in_flight.entered({}):
            return await self._reload.now()
