"""What the fixture `serve` gives: the whole application, to be entered."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from app.server.gate import Gate
from tests.app.fakes import WatchedMetrics


@dataclass(frozen=True)
class Service:
    """The whole application with its lifespan entered, a client of it, and the gate that connections ask before it."""

    app: FastAPI
    http: httpx.AsyncClient
    admin: FastAPI | None
    gate: Gate
    metrics: WatchedMetrics


Serve = Callable[..., AbstractAsyncContextManager[Service]]
