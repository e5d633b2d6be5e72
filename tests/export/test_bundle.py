"""What is published is proved, carries its canary, and replaces the old file in one step or not at all."""

import base64
import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from toy_checkpoints import toy_checkpoint

import export.bundle
from export.bundle import generated_pictures, publish
from export.parity import GraphRunner, Parity
from model.checkpoint import Checkpoint, torch_logits
from model.data import PictureSet
from model.errors import ExportError
from model.preprocess import Pixels, to_patches, to_pixels
from model.spec import METADATA_KEY, Fit, ModelSpec


def stored_spec(path: Path) -> ModelSpec:
    return ModelSpec.model_validate_json(
        onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map[METADATA_KEY]
    )


def test_a_bundle_is_one_proved_graph(checkpoint: Checkpoint, tmp_path: Path, pictures: Pixels):
    published = publish(checkpoint, tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["fp32.onnx"]
    assert published.path == tmp_path / "bundle" / "fp32.onnx"
    assert published.parity.num_pictures == len(pictures), "the checkpoint's own pictures prove it"
    assert stored_spec(published.path) == published.spec


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", [Fit(mode="pad"), Fit(mode="crop", crop_percentage=0.875)], ids=lambda fit: fit.mode)
def test_the_canary_gives_its_stored_logits_through_the_service_path(tmp_path: Path, channels: int, fit: Fit):
    published = publish(toy_checkpoint(channels, fit=fit), tmp_path)
    canary = published.spec.canary
    assert canary is not None
    pixels = to_pixels(Image.open(io.BytesIO(base64.b64decode(canary.picture))), channels)
    patches = to_patches(pixels, published.spec)[np.newaxis]
    (logits,) = onnxruntime.InferenceSession(published.path).run(["logits"], {"patches": patches})
    assert np.abs(logits[0] - canary.logits).max() <= canary.atol
    assert canary.atol < 0.01 * np.ptp(canary.logits), "a wrong answer would be noticed"


def test_metrics_are_measured_through_the_graph_itself(checkpoint: Checkpoint, tmp_path: Path, pictures: Pixels):
    labels = torch_logits(checkpoint.model, pictures).argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 4
    published = publish(checkpoint, tmp_path, test=("forty, test", PictureSet(pictures, labels.astype(np.int64))))
    metrics = published.spec.metrics
    assert metrics is not None
    assert (metrics.data_set, metrics.num_pictures, metrics.top1) == ("forty, test", 40, 0.75)


def test_a_checkpoint_without_pictures_is_proved_on_generated_ones(tmp_path: Path):
    assert publish(toy_checkpoint(), tmp_path).parity.num_pictures == 32


def test_generated_pictures_are_varied_and_the_same_every_time():
    spec = toy_checkpoint(1).spec
    first, second = generated_pictures(spec), generated_pictures(spec)
    np.testing.assert_array_equal(first, second)
    assert first.shape == (32, 12, 12, 1)
    assert len(np.unique(first.reshape(32, -1), axis=0)) == 32


def test_a_graph_that_fails_parity_leaves_the_old_bundle_untouched(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    publish(checkpoint, tmp_path)
    before = (tmp_path / "fp32.onnx").read_bytes()
    monkeypatch.setattr(export.bundle, "measure", lambda *_: Parity(40, 0.5, 0.9))
    with pytest.raises(ExportError, match="not published"):
        publish(checkpoint, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.onnx"]
    assert (tmp_path / "fp32.onnx").read_bytes() == before


def test_a_bundle_that_cannot_be_written_is_one_clear_error(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"file.bundle cannot be written"):
        publish(checkpoint, tmp_path / "file" / "bundle")


def test_the_runner_and_the_published_graph_agree(checkpoint: Checkpoint, tmp_path: Path, pictures: Pixels):
    published = publish(checkpoint, tmp_path)
    found = GraphRunner(published.path, checkpoint.spec.patch_size).logits(pictures)
    np.testing.assert_allclose(found, torch_logits(checkpoint.model, pictures), atol=1e-5)
