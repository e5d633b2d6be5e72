"""Headers that tell browsers to take an answer for what it is, and who may read it. Knows nothing of the answers."""

from collections.abc import Sequence
from functools import partial

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.dispatcher import Application

_TAKEN_AS_IT_IS = (b"x-content-type-options", b"nosniff")
ANSWER = (_TAKEN_AS_IT_IS, (b"cache-control", b"no-store"))
UNCHANGING = (_TAKEN_AS_IT_IS, (b"cache-control", b"public, max-age=31536000, immutable"))
IN_SCOPE = "mixer.answer_headers"  # where an endpoint that wants others than ANSWER puts them
_POLICY = b"content-security-policy"
_NOTHING = (_POLICY, b"default-src 'none'; frame-ancestors 'none'")
_PAGE = ((b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY"))
_BOTH_WAYS = ("inference-header-content-length", "x-request-id")
_ASKED = ("authorization", "content-type", "x-api-key", "x-client-id", "x-request-timeout-ms", *_BOTH_WAYS)
_SHOWN = ("retry-after", "server-timing", *_BOTH_WAYS)


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


def allow_origins(app: Application, origins: Sequence[str]) -> None:
    """CORS: let pages of these origins use `app`, dispatched endpoints too. There are no cookies."""
    around = partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT"),
        allow_headers=_ASKED,
        expose_headers=_SHOWN,
    )
    app.add_middleware(around)
    app.wrap_dispatched(around)
