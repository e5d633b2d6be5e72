"""A request as a span, in the words of OpenTelemetry's conventions for HTTP. Knows nothing of how spans are sent.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/. What the log does not have of a client, its span does not
either: no query, as a protocol may show a key there, and no name of the client's program.
"""

from collections.abc import Callable
from typing import NamedTuple

from starlette.types import Scope

from app.telemetry.tracing import Attributes

SPAN = "mixer.span"  # in the scope of a request that is not HTTP: what describes it, as `described` does
CLIENT_GONE_STATUS = 499  # nginx's number; it is logged and counted, nobody receives it
# What asks for these comes every few seconds; it is traced only where it belongs to a trace of its own.
PROBES = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics", "/ping"))
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"))
_OTHER, _UNKNOWN = "_OTHER", "HTTP"
_HOST = b"host"
_MOST_CHARACTERS = 256
_FAILED = 500  # and above: what the service is to blame for
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Described(NamedTuple):
    """The name of a span, its attributes, and why it counts as failed, if it does."""

    name: str
    attributes: Attributes
    failure: str | None


Describe = Callable[[Scope, str, int, str | None], Described]


def described(scope: Scope, path: str, status: int, code: str | None) -> Described:
    """Of a request with this scope. `path`: as the log has it. `code`: of its problem, if it has one."""
    method = scope["method"] if scope["method"] in _METHODS else _OTHER
    name, route = _UNKNOWN if method == _OTHER else method, getattr(scope.get("route"), "path", None)
    host, port = _server(scope)
    client = scope.get("client")
    is_answered = status != CLIENT_GONE_STATUS
    attributes: dict[str, str | int | None] = {
        "http.request.method": method,
        "http.request.method_original": scope["method"][:_MOST_CHARACTERS] if method == _OTHER else None,
        "http.route": route,
        "http.response.status_code": status if is_answered else None,
        "url.path": path,
        "url.scheme": scope.get("scheme"),
        "network.protocol.version": scope.get("http_version"),
        "server.address": host,
        "server.port": port,
        "client.address": client[0] if client else None,
        "error.type": code if status >= _FAILED or not is_answered else None,
    }
    return Described(name if route is None else f"{name} {route}", attributes, code if status >= _FAILED else None)


def _server(scope: Scope) -> tuple[str | None, int | None]:
    """The host and port that the client asked for, else those of the socket."""
    host = next((value for name, value in scope["headers"] if name == _HOST), b"").decode("latin-1")[:_MOST_CHARACTERS]
    if not host or not host.isprintable():
        server = scope.get("server")
        return (server[0], server[1]) if server else (None, None)
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and len(port) <= 5:
        return name, int(port)
    return host, _DEFAULT_PORTS.get(scope.get("scheme", ""))
