"""What operators ask for: a reload. HTTP only."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, Request

from app.api import security
from app.api.openapi import OPERATORS, answered, described
from app.errors import BadApiKey, DeadlinePassed, Forbidden, NotReady
from app.http.in_flight import Drain
from app.serving.reload import Reload, ReloadBody, ReloadRefused

_RELOADED = {"workers": 2, "models": [{"name": "fashion-mnist", "outcome": "swapped", "reason": None}]}

Guard = Callable[[Request], Awaitable[None]]


class Admin:
    """POST /admin/reload, for whom `guard` lets in."""

    def __init__(self, reload: Reload, drain: Drain, guard: Guard) -> None:
        self._reload = reload
        self._drain = drain
        self._guard = guard

    def router(self) -> APIRouter:
        """Every endpoint of it."""
        router = APIRouter(tags=[OPERATORS], dependencies=[*security.either(), Depends(self._guard)])
        router.add_api_route(
            "/admin/reload",
            self.reload,
            methods=["POST"],
            response_model=ReloadBody,
            operation_id="reload",
            summary="Serve the bundles as they are on the disk now",
            responses=answered("What became of every bundle, in every worker", _RELOADED)
            | described(BadApiKey, Forbidden, ReloadRefused, NotReady, DeadlinePassed),
        )
        return router

    async def reload(self) -> ReloadBody:
        """Answers once every worker has followed; 409 where a bundle is refused, and the old one goes on."""
        with self._drain.enter():
            return await self._reload.now()
