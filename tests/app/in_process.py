"""What the fixture `serve` gives: the whole application, to be entered."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI

from tests.app.fakes import WatchedMetrics


@dataclass(frozen=True)
class Service:
    """The whole application with its lifespan entered, and a client of it."""

    app: FastAPI
    http: httpx.AsyncClient
    admin: FastAPI | None
    metrics: WatchedMetrics


Serve = Callable[..., AbstractAsyncContextManager[Service]]
