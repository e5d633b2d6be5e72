"""The API's description for programs, and a page that shows it: Swagger UI, shipped with the service.

Nothing on the page comes from elsewhere, and every address on it is relative, so that it is right behind any prefix.
"""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

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
_PIECE_BYTES = 64 << 10  # of a file, until its client has taken what went before
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_METHODS = ["GET", "HEAD"]
_VARY = {"vary": "Accept"}


class _File(Response):
    """A file, mapped into memory: the processes of a service share what the system has read of it."""

    def __init__(self, path: Path, media_type: str) -> None:
        super().__init__(media_type=media_type)
        with path.open("rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.headers["content-length"] = str(len(self._content))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, piece by piece."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        end = 0 if scope["method"] == "HEAD" else len(self._content)
        for at in range(0, end, _PIECE_BYTES):
            piece = self._content[at : at + _PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


class Documentation:
    """`document` is FastAPI's description of the application."""

    def __init__(self, document: Callable[[], dict[str, Any]]) -> None:
        self._document = document
        self._files = {name: _File(_FOLDER / name, media_type) for name, media_type in _FILES.items()}
        self._script = _File(_FOLDER / "docs.js", "text/javascript; charset=utf-8")
        self._page = (_FOLDER / "docs.html").read_text(encoding="utf-8").replace("VERSION", SWAGGER_UI)

    def router(self) -> APIRouter:
        """Its endpoints, none of which is in the document."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/", self.root, methods=_METHODS)
        router.add_api_route("/openapi.json", self.description, methods=_METHODS)
        router.add_api_route(PAGE, self.page, methods=_METHODS)
        router.add_api_route(f"{PAGE}/docs.js", self.script, methods=_METHODS)
        for name in self._files:
            router.add_api_route(f"{PAGE}/{SWAGGER_UI}/{name}", self.file, methods=_METHODS)
        return router

    async def root(self, request: Request) -> Response:
        """Redirect browsers to the page; relative where no prefix is known, as there may be one.

        Who does not ask for HTML gets what KServe v1 says of a server that is alive.
        """
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"status": "alive"}, headers=_VARY)
        prefix = prefix_of(request.scope)
        return RedirectResponse(prefix + PAGE if prefix else PAGE.removeprefix("/"), headers=_VARY)

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
