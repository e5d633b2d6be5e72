"""A toy bundle for all tests of app/, and an environment without options of the service."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import main
from app.engine.engine import Engine, EngineOptions, open_engine
from app.settings import Settings
from tests.app.color_bundle import color_spec, write_bundle
from tests.app.fakes import WatchedMetrics
from tests.app.in_process import Serve, Service


@pytest.fixture(autouse=True)
def no_options_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MIXER_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fp32.onnx: red, green and blue pictures of 8 x 8 pixels."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "colours0", color_spec())  # the name that clients see


@pytest.fixture(scope="session")
def grey_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fp32.onnx: dark and light grey pictures of 8 x 8 pixels."""
    return write_bundle(tmp_path_factory.mktemp("greys"), color_spec(channels=1))


@pytest.fixture(scope="session")
def engine(bundle: Path) -> Engine:
    """A real engine over the toy bundle, in two instances."""
    return open_engine(EngineOptions(bundle, provider="cpu", precision="fp32", instances=2, max_batch_size=8))


@pytest.fixture
def serve(bundle: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`async with serve(engine=..., queue_capacity=...) as service`: any option, and an engine other than the toy's."""

    @asynccontextmanager
    async def served(engine: Engine = engine, **options: Any) -> AsyncIterator[Service]:
        metrics = WatchedMetrics()
        monkeypatch.setattr(main, "Metrics", lambda *_: metrics)
        made = main.create_service(Settings(**{"bundle": bundle, "drain_timeout_s": 5, **options}), engine)
        application = made.app
        transport = httpx.ASGITransport(application)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            yield Service(application, client, made.admin, made.gate, metrics)

    return served
