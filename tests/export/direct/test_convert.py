"""Files of public layouts and checkpoint folders become bundles in a process that has no torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from export.direct.convert import convert, few_images
from export.direct.network import ArrayNetwork
from export.parity import THRESHOLDS, GraphRunner
from model.errors import CheckpointError
from model.hubs.names import find
from model.network import checkpoint
from model.preprocess import Pixels
from model.spec import Fit, ModelSpec, Source
from model.weights.config import VARIANTS
from model.weights.mixer_weights import MixerWeights
from tests.export.toy_checkpoints import toy_checkpoint

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests" / "vectors"

WITHOUT_TORCH = """
import json, resource, sys
sys.modules["torch"] = sys.modules["onnxscript"] = None  # an import of either fails
from pathlib import Path
from export.direct.convert import convert
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
published = convert(Path(sys.argv[1]), None, None, Path(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"graphs": list(published.graphs), "before_mb": before / 1024, "peak_mb": peak / 1024}))
"""


def without_torch(weights: Path, bundle: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(weights), str(bundle)]
    found: dict[str, Any] = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
    return found


@pytest.mark.process
@pytest.mark.parametrize("file", ["google_tiny.npz", "timm_tiny.safetensors"])
def test_a_public_file_becomes_a_bundle_in_a_process_without_torch(file: str, tmp_path: Path):
    found = without_torch(VECTORS / file, tmp_path / "bundle")
    assert found["graphs"] == ["fp32", "fp16", "int8"]
    assert found["peak_mb"] - found["before_mb"] < 100, "a network of 80 kB"
    reference = np.load(VECTORS / f"{file.partition('.')[0]}_io.npz")
    logits = GraphRunner(tmp_path / "bundle" / "fp32.onnx", 4).logits(reference["pixels"])
    np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=1e-5)


@pytest.mark.process
def test_so_does_a_checkpoint_folder_and_its_pictures_give_int8_its_scales(images: Pixels, tmp_path: Path):
    saved = toy_checkpoint(images=images)
    checkpoint.save(saved, tmp_path / "checkpoint")
    assert without_torch(tmp_path / "checkpoint", tmp_path / "bundle")["graphs"] == ["fp32", "fp16", "int8"]
    logits = GraphRunner(tmp_path / "bundle" / "fp32.onnx", 4).logits(images)
    expected = checkpoint.torch_logits(saved.model, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=THRESHOLDS["fp32"].difference * np.ptp(expected))


@pytest.mark.process
def test_mixer_import_needs_no_torch_either(tmp_path: Path):
    script = 'import sys; sys.modules["torch"] = None; sys.argv[0] = "mixer"; from cli.main import main; main()'
    command = [sys.executable, "-c", script, "import", str(VECTORS / "google_tiny.npz"), str(tmp_path / "checkpoint")]
    said = subprocess.check_output(command, cwd=ROOT, text=True)
    assert said == f"{tmp_path / 'checkpoint'}: Mixer custom, 16 pixels, patch 4, 7 classes, tanh GELU\n"
    assert len(load_file(tmp_path / "checkpoint" / "model.safetensors")) == 30


def test_a_name_and_labels_go_into_the_spec(tmp_path: Path):
    remote = find("timm:mixer_b16_224.miil_in21k", {})
    published = convert(VECTORS / "timm_tiny.safetensors", remote, tuple("abcdefg"), tmp_path, ["fp32"])
    spec = published.graphs["fp32"].spec
    assert list(published.graphs) == ["fp32"]
    assert (spec.labels, spec.interpolation) == (tuple("abcdefg"), "bilinear")
    assert remote is not None
    assert spec.source.origin == remote.url


def test_labels_beside_a_checkpoint_are_refused(images: Pixels, tmp_path: Path):
    checkpoint.save(toy_checkpoint(images=images), tmp_path / "checkpoint")
    with pytest.raises(
        CheckpointError, match=r"checkpoint is a checkpoint, which has labels of its own; expected none"
    ):
        convert(tmp_path / "checkpoint", None, tuple("abcd"), tmp_path / "bundle")


def test_a_file_that_breaks_off_leaves_no_graph(tmp_path: Path):
    content = (VECTORS / "google_tiny.npz").read_bytes()
    (tmp_path / "broken.npz").write_bytes(content[:-300])
    with pytest.raises(CheckpointError, match=r"broken\.npz cannot be read as \.npz"):
        convert(tmp_path / "broken.npz", None, None, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("variant", "expected"), [("S/16", 32), ("B/16", 31), ("L/16", 8), ("H/14", 8)])
def test_the_larger_the_network_the_fewer_the_pictures(variant: str, expected: int):
    config = VARIANTS[variant]
    spec = ModelSpec(
        name="any", image_size=224, patch_size=config.patch_size, channels=3, num_classes=1000,
        labels=tuple(map(str, range(1000))), fit=Fit(), source=Source(origin="test"),
    )  # fmt: skip
    images = few_images(ArrayNetwork(MixerWeights(config, {}), spec))
    assert images.shape == (expected, 224, 224, 3)
    assert len({image.tobytes() for image in images}) == expected
