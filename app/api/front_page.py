"""GET /: a page on which people without a terminal try pictures, and what programs get there instead.

The page asks the endpoints that everybody asks; nothing on it comes from elsewhere. Every address in it is below the
prefix of the request where one is known, and relative where none is, as there may be one.
"""

import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from app.api.documentation import METHODS
from app.api.documentation import PAGE as DOCUMENTATION
from app.api.mapped_file import MappedFile
from app.http.browser_headers import IN_SCOPE, UNCHANGING
from app.http.prefix import prefix_of

_FOLDER = Path(__file__).parent / "page"
_MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ADDRESS = re.compile("FOLDER|ROOT")
_VARY = {"vary": "Accept"}


class FrontPage:
    """`shown`: whether browsers get the page; otherwise they are sent to the documentation."""

    def __init__(self, *, shown: bool) -> None:
        paths = sorted(path for path in _FOLDER.iterdir() if path.suffix in _MEDIA_TYPES) if shown else []
        self._files = {path.name: MappedFile(path, _MEDIA_TYPES[path.suffix]) for path in paths}
        self._folder = f"page/{_digest(paths)}"
        self._page = (_FOLDER / "page.html").read_text(encoding="utf-8") if shown else None

    def router(self) -> APIRouter:
        """Its endpoints, none of which is in the OpenAPI document."""
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/", self.root, methods=METHODS)
        for name in self._files:
            router.add_api_route(f"/{self._folder}/{name}", self.file, methods=METHODS)
        return router

    async def root(self, request: Request) -> Response:
        """The page, or a redirect to the documentation, for browsers.

        Who does not ask for HTML gets what KServe v1 says of a server that is alive.
        """
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"status": "alive"}, headers=_VARY)
        prefix = prefix_of(request.scope)
        if self._page is None:
            return RedirectResponse(prefix + DOCUMENTATION if prefix else DOCUMENTATION[1:], headers=_VARY)
        root = f"{prefix}/" if prefix else ""  # a prefix is plain names: it needs no escaping
        addresses = {"FOLDER": root + self._folder, "ROOT": root}
        page = _ADDRESS.sub(lambda found: addresses[found[0]], self._page)  # at once: a prefix may have these names
        return Response(page, headers={**_VARY, "Content-Security-Policy": _POLICY}, media_type="text/html")

    async def file(self, request: Request) -> Response:
        """A file of the page, which never changes at its address."""
        request.scope[IN_SCOPE] = UNCHANGING
        return self._files[request.scope["path"].rpartition("/")[2]]


def _digest(paths: list[Path]) -> str:
    """Another one whenever any of the files is another one: a browser never mixes old files with new ones."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
