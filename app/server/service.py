"""What a server runs: the applications of one process, and what it must know of them. Knows nothing of their making."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp

from app.server.gate import Gate
from app.server.tls import Certificate
from app.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Service:
    """`app` has the lifespan. `admin`: what a port of its own serves; `certificate`: what both ports show.

    `gate` is asked at the head of a request for `app`. `longest_run_s`: for how many seconds the longest run under way
    has run. `state`: "ready" or not, and what is served how.
    """

    app: ASGIApp
    admin: ASGIApp | None
    certificate: Certificate | None
    gate: Gate
    metrics: Metrics
    longest_run_s: Callable[[], float]
    state: Callable[[], tuple[str, str]]
