"""A network of weights alone is proved, refused and published as one in torch is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.bundle import ExportData, publish
from export.direct.network import ArrayNetwork
from export.parity import THRESHOLDS, GraphRunner
from model.errors import ExportError
from model.network.checkpoint import Checkpoint, torch_logits
from model.preprocess import Pixels
from model.spec import METADATA_KEY, PRECISION_KEY, ModelSpec
from model.weights.tensor_file import held
from tests.export.direct.test_mixer_graph import weights_of
from tests.export.toy_checkpoints import noise


@pytest.fixture
def network(checkpoint: Checkpoint, images: Pixels) -> ArrayNetwork:
    return ArrayNetwork(weights_of(checkpoint), checkpoint.spec, images)


def with_tensor(network: ArrayNetwork, name: str, factor: float) -> ArrayNetwork:
    tensors = dict(network.weights.tensors)
    tensors[name] = held(tensors[name].read() * np.float32(factor))
    return replace(network, weights=replace(network.weights, tensors=tensors))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 40])
def test_logits_are_torchs_however_many_pictures_there_are(network: ArrayNetwork, checkpoint: Checkpoint, count: int):
    expected = torch_logits(checkpoint.model, noise(count))
    np.testing.assert_allclose(network.logits(noise(count)), expected, rtol=0, atol=2e-6 * np.ptp(expected))


def test_it_is_published_in_every_precision_with_pictures_of_its_own(network: ArrayNetwork, tmp_path: Path):
    published = publish(network, tmp_path)
    assert (published.refused, published.warnings) == ({}, ())
    assert list(published.graphs) == ["fp32", "fp16", "int8"]
    for precision, graph in published.graphs.items():
        assert graph.parity.judge == "NumPy"
        assert graph.parity.relative_difference <= THRESHOLDS[precision].difference
        metadata = {entry.key: entry.value for entry in onnx.load(graph.path).metadata_props}
        assert ModelSpec.model_validate_json(metadata[METADATA_KEY]) == graph.spec
        assert metadata[PRECISION_KEY] == precision
        assert graph.spec.canary is not None
        onnx.checker.check_model(graph.path, full_check=True)


@pytest.mark.heavy
def test_a_bundle_says_what_that_of_torch_says(network: ArrayNetwork, bundle_of_torch: Path, tmp_path: Path):
    publish(network, tmp_path)
    for precision in ("fp32", "fp16", "int8"):
        ours, torchs = (
            {entry.key: entry.value for entry in onnx.load(folder / f"{precision}.onnx").metadata_props}
            for folder in (tmp_path, bundle_of_torch)
        )
        spec, other = (ModelSpec.model_validate_json(metadata.pop(METADATA_KEY)) for metadata in (ours, torchs))
        assert ours == torchs
        assert spec.canary is not None
        assert other.canary is not None
        np.testing.assert_allclose(spec.canary.logits, other.canary.logits, rtol=0, atol=other.canary.atol)
        assert spec.canary.picture == other.canary.picture
        assert spec.model_copy(update={"canary": None}) == other.model_copy(update={"canary": None})


def test_a_network_that_answers_otherwise_than_its_graph_is_not_published(network: ArrayNetwork, tmp_path: Path):
    class Mistaken(ArrayNetwork):
        """Writes another network than it judges by."""

        def write_graph(self, path: Path, form: str) -> None:
            with_tensor(network, "head.weight", 1.01).write_graph(path, form)  # type: ignore[arg-type]

    mistaken = Mistaken(network.weights, network.spec, network.images)
    with pytest.raises(ExportError, match=r"fp32.onnx is not published: its logits differ from NumPy's by 0\.0"):
        publish(mistaken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_picture_is_told_from_its_negative_and_a_head_of_zeros_tells_nothing(network: ArrayNetwork, tmp_path: Path):
    one = ExportData(noise(1))
    assert publish(network, tmp_path / "one", one, ()).warnings == ()
    constant = publish(with_tensor(network, "head.weight", 0.0), tmp_path / "zeros", one, ())
    assert len(constant.warnings) == 1
    assert constant.graphs["fp32"].spec.canary is None


def test_the_graph_answers_with_its_weights_alone(network: ArrayNetwork, tmp_path: Path):
    network.write_graph(tmp_path / "fp32.onnx", "fp32")
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.onnx"]
    found = GraphRunner(tmp_path / "fp32.onnx", 4).logits(noise(3))
    np.testing.assert_allclose(found, network.logits(noise(3)), rtol=0, atol=1e-5)
