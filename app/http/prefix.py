"""Below which path clients see the service, as a proxy in front of it says or the settings do.

Inside the service no path has it: it is only put before addresses that go out.
"""

import re
from collections.abc import Awaitable, Container, Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

_OTHERS = {
    "explanations",
    "hf",
    "infer",
    "invocations",
    "ping",
    "predictions",
    "v1",
    "v2",
}  # of other protocols
OWN_PATHS = frozenset(
    {"admin", "classify", "docs", "explain", "feedback", "health", "metrics", "model", "models", "openapi.json", "page"}
    | _OTHERS
)
_SCOPE = "mixer.prefix"
_HEADER = b"x-forwarded-prefix"
_MOST = 256  # characters
_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")


def prefix_of(scope: Scope) -> str:
    """The prefix, without a slash at its end; empty where there is none, or none is known."""
    prefix: str = scope.get(_SCOPE, "")
    return prefix


def is_prefix(path: str) -> bool:
    """Whether it is a path of plain names, as /mixer or /vision/mixer."""
    return len(path) <= _MOST and _PREFIX.fullmatch(path) is not None


class Prefix:
    """Wraps the whole application. `root_path`: that of the settings, which paths may have or not.

    X-Forwarded-Prefix of one of the `proxies` wins over it; its sender has taken that prefix off the path.
    """

    def __init__(self, application: ASGIApp, root_path: str, proxies: Container[str]) -> None:
        self._application = application
        self._root_path = root_path
        self._proxies = proxies

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """One request, or the lifespan."""
        if scope["type"] == "http":
            self._locate(scope)
        return self._application(scope, receive, send)

    def _locate(self, scope: Scope) -> None:
        root_path = self._root_path
        if root_path:
            scope[_SCOPE] = root_path
            if scope["path"].startswith(root_path + "/"):
                scope["path"] = scope["path"][len(root_path) :]
        client = scope["client"]
        if client is not None and client[0] in self._proxies and _HEADER in dict(scope["headers"]):
            said = [value for name, value in scope["headers"] if name == _HEADER]
            scope[_SCOPE] = _joined(said) or root_path


def _joined(said: Iterable[bytes]) -> str:
    """Proxies one behind the other each add theirs, the outermost first. Empty where any of them is no prefix."""
    listed = b",".join(said).decode("latin-1")
    if len(listed) > 2 * _MOST:
        return ""
    parts = [part.strip(" \t").removesuffix("/") for part in listed.split(",")]
    whole = "".join(parts)
    return whole if is_prefix(whole) and all(part == "" or is_prefix(part) for part in parts) else ""
