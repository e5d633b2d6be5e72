"""A real service in a process of its own over a toy bundle, and an environment that names no proxy."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import Server
from tests.faults.wire import served


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fp32.onnx: red, green and blue pictures of 8 x 8 pixels."""
    return write_bundle(tmp_path_factory.mktemp("asked"), color_spec())


@pytest.fixture(scope="session")
def service(bundle: Path) -> Iterator[Server]:
    """One process with its default limits, for all tests that only ask."""
    with served(bundle, "--workers", "1") as running:
        running.wait_until_serving()
        yield running
