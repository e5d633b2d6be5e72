"""A toy checkpoint, pictures to prove it with, and its graphs: written once, for tests that only look at them."""

from pathlib import Path

import numpy as np
import pytest

from export.bundle import ExportData, Published, publish
from export.to_onnx import TorchNetwork
from model.data.dataset import ImageSet
from model.network.checkpoint import Checkpoint, torch_logits
from model.preprocess import Pixels
from model.spec import Fit
from tests.export.toy_checkpoints import clear_images, toy_checkpoint


@pytest.fixture(scope="session")
def images() -> Pixels:
    return clear_images(toy_checkpoint().model)


@pytest.fixture
def checkpoint(images: Pixels) -> Checkpoint:
    """A new one for every test, which may change it."""
    return toy_checkpoint(images=images)


@pytest.fixture(scope="session")
def bundle(images: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The checkpoint's three graphs, measured on its pictures, of which the first ten bear a wrong label."""
    checkpoint = toy_checkpoint(fit=Fit(crop_percentage=0.875))
    labels = torch_logits(checkpoint.model, images).argmax(axis=1).astype(np.int64)
    labels[:10] = (labels[:10] + 1) % 4
    export_data = ExportData(images, calibration=images, test=("forty, test", ImageSet(images, labels)))
    return publish(TorchNetwork(checkpoint), tmp_path_factory.mktemp("package") / "bundle", export_data)


@pytest.fixture
def fp32(bundle: Published) -> Path:
    return bundle.graphs["fp32"].path


@pytest.fixture
def fp16(bundle: Published) -> Path:
    return bundle.graphs["fp16"].path


@pytest.fixture
def int8(bundle: Published) -> Path:
    return bundle.graphs["int8"].path
