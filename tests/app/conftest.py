"""A toy bundle for all tests of app/, and an environment without options of the service."""

import os
from pathlib import Path

import pytest
from colour_bundle import colour_spec, write_bundle

from app.engine import Engine, EngineOptions, open_engine


@pytest.fixture(autouse=True)
def no_options_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MIXER_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fp32.onnx: red, green and blue pictures of 8 x 8 pixels."""
    return write_bundle(tmp_path_factory.mktemp("colours"), colour_spec())


@pytest.fixture(scope="session")
def grey_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fp32.onnx: dark and light grey pictures of 8 x 8 pixels."""
    return write_bundle(tmp_path_factory.mktemp("greys"), colour_spec(channels=1))


@pytest.fixture(scope="session")
def engine(bundle: Path) -> Engine:
    """A real engine over the toy bundle, in two lanes."""
    return open_engine(EngineOptions(bundle, provider="cpu", precision="fp32", lanes=2, max_batch_size=8))
