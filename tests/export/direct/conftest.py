"""What torch publishes of the same checkpoint: written once."""

from pathlib import Path

import pytest

from export.bundle import publish
from export.to_onnx import TorchNetwork
from model.preprocess import Pixels
from tests.export.toy_checkpoints import toy_checkpoint


@pytest.fixture(scope="session")
def bundle_of_torch(images: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch") / "bundle"
    publish(TorchNetwork(toy_checkpoint(images=images)), folder)
    return folder
