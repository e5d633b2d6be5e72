"""The API's description for programs, and a page that shows it: Swagger UI, shipped with the service.

Nothing on the page comes from elsewhere, and every address on it is relative, so that it is right behind any prefix.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.api.mapped_file import MappedFile
from app.api.openapi import complete
from app.http.browser_headers import IN_SCOPE, UNCHANGING
from app.http.prefix import prefix_of

SWAGGER_UI = "5.35.0"  # the version in swagger_ui/, part of its addresses
PAGE = "/docs"
_FOLDER = Path(__file__).parent / "swagger_ui"
_FILES = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
METHODS = ["GET", "HEAD"]


class Documentation:
    """`document` is FastAPI's description of the application."""

    def __init__(self, document: Callable[[], dict[str, Any]]) -> None:
        self._document = document
        self._files = {name: MappedFile(_FOLDER / name, media_type) for name, media_type in _FILES.items()}
        self._script = MappedFile(_FOLDER / "docs.js", "text/javascript; charset=utf-8")
        self._page = (_FOLDER / "docs.html").read_text(encoding="utf-8").replace("VERSION", SWAGGER_UI)

    def router(self) -> APIRouter:
        """Its endpoints, none of which is in the document."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/openapi.json", self.description, methods=METHODS)
        router.add_api_route(PAGE, self.page, methods=METHODS)
        router.add_api_route(f"{PAGE}/docs.js", self.script, methods=METHODS)
        for name in self._files:
            router.add_api_route(f"{PAGE}/{SWAGGER_UI}/{name}", self.file, methods=METHODS)
        return router

    async def description(self, request: Request) -> JSONResponse:
        """The OpenAPI document."""
        return JSONResponse(complete(self._document(), prefix_of(request.scope)))

    async def page(self) -> Response:
        """The page for a browser."""
        return Response(self._page, headers={"Content-Security-Policy": _POLICY}, media_type="text/html")

    async def script(self) -> Response:
        """What the page starts with."""
        return self._script

    async def file(self, request: Request) -> Response:
        """A file of Swagger UI, which never changes at its address."""
        request.scope[IN_SCOPE] = UNCHANGING
        return self._files[request.scope["path"].rpartition("/")[2]]
