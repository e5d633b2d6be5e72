"""The fault suite: a real service in a process of its own, on real sockets. What tests of app/ use is found there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.color_bundle import color_spec, write_bundle
from tests.app.servers import Server
from tests.faults.wire import served


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fp32.onnx: red, green and blue pictures of 8 x 8 pixels."""
    return write_bundle(tmp_path_factory.mktemp("colours"), color_spec())


@pytest.fixture(scope="module")
def service(bundle: Path) -> Iterator[Server]:
    """One process with its default limits for all tests of a module: whatever they do to it, it serves the next."""
    with served(bundle, "--workers", "1") as running:
        running.wait_until_serving()
        yield running
