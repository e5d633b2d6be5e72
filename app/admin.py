"""What operators ask for: a reload. HTTP only."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, Request

from app import security
from app.drain import Drain
from app.problems import described
from app.reload import Reload, ReloadBody

Guard = Callable[[Request], Awaitable[None]]


class Admin:
    """POST /admin/reload, for whom `guard` lets in."""

    def __init__(self, reload: Reload, drain: Drain, guard: Guard) -> None:
        self._reload = reload
        self._drain = drain
        self._guard = guard

    def router(self) -> APIRouter:
        """Every endpoint of it."""
        router = APIRouter(dependencies=[*security.either(), Depends(self._guard)])
        router.add_api_route(
            "/admin/reload",
            self.reload,
            methods=["POST"],
            response_model=ReloadBody,
            summary="Serve the bundles as they are on the disk now",
            responses=described(401, 403, 409, 503, 504),
        )
        return router

    async def reload(self) -> ReloadBody:
        """Answers once every worker has followed; 409 where a bundle is refused, and the old one goes on."""
        with self._drain.enter():
            return await self._reload.now()
