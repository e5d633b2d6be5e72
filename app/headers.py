"""Headers that tell browsers to take an answer for what it is, and for nothing else. Knows nothing of the answers."""

import base64
import hashlib
import re

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANSWER = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_POLICY = b"content-security-policy"
_NOTHING = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
_PAGE = ((b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_ASSETS = "https://cdn.jsdelivr.net"  # where FastAPI's page gets Swagger UI from


class PageHeaders:
    """Wraps an application whose answers a browser may show: no frame, no referrer, and nothing that is loaded or run.

    An answer with a policy of its own keeps it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                policy = () if any(name == _POLICY for name, _ in headers) else (_NOTHING,)
                message["headers"] = [*headers, *_PAGE, *policy]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def documentation(openapi_url: str, title: str) -> HTMLResponse:
    """FastAPI's page for an OpenAPI document, which may run its own script and Swagger UI's, and no other."""
    page = get_swagger_ui_html(openapi_url=openapi_url, title=title, swagger_favicon_url="data:,")
    scripts = " ".join(f"'sha256-{_sha256(script)}'" for script in _INLINE_SCRIPT.findall(bytes(page.body)))
    page.headers[_POLICY.decode()] = (
        f"default-src 'none'; script-src {_ASSETS} {scripts}; style-src {_ASSETS} 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page


def _sha256(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()
