"""CORS: which pages of other origins may read the service's answers. Not one, unless it is configured."""

from collections.abc import Sequence
from functools import partial

from starlette.middleware.cors import CORSMiddleware

from app.http.dispatcher import Application

_ASKED = ("authorization", "content-type", "x-api-key", "x-request-id", "x-request-timeout-ms")
_SHOWN = ("retry-after", "server-timing", "x-request-id")


def allow(app: Application, origins: Sequence[str]) -> None:
    """Let pages of these origins use `app`, its shortcuts too. Browsers send no cookies along: there are none."""
    around = partial(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=_ASKED,
        expose_headers=_SHOWN,
    )
    app.add_middleware(around)
    app.wrap_shortcuts(around)
