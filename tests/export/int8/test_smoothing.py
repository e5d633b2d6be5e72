"""The same function, with channels that a byte's steps suffice for."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.int8.by_row import quantize_by_row
from export.int8.smoothing import factors, smooth
from export.parity import GraphRunner
from export.to_onnx import write_graph
from model.network.mixer import MlpMixer
from model.preprocess import Pixels
from tests.export.toy_checkpoints import toy_checkpoint
from tests.export.toy_graphs import constants, op_types


def with_outliers(model: MlpMixer, factor: float) -> MlpMixer:
    """The same function with two channels in each block whose gain is large and whose kernel rows are small."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for block in changed.blocks:
            block.layer_norm_1.weight[:2] *= factor
            block.layer_norm_1.bias[:2] *= factor
            block.channel_mixing.dense_0.weight[:, :2] /= factor
    return changed


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with outlier channels in fp32."""
    path = tmp_path_factory.mktemp("smoothing") / "rows.onnx"
    write_graph(with_outliers(toy_checkpoint().model, 50), path, "rows")
    return path


def saved(graph: onnx.ModelProto, path: Path) -> GraphRunner:
    onnx.save(graph, path)
    return GraphRunner(path, 4)


def test_the_function_is_the_same(rows: Path, images: Pixels, tmp_path: Path):
    before = GraphRunner(rows, 4).logits(images)
    after = saved(smooth(onnx.load(rows)), tmp_path / "smooth.onnx").logits(images)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * float(np.ptp(before)))
    onnx.checker.check_model(onnx.load(tmp_path / "smooth.onnx"), full_check=True)
    assert op_types(tmp_path / "smooth.onnx") == op_types(rows)


def test_only_layer_norms_whose_channels_are_mixed_change(rows: Path):
    before, after = onnx.load(rows).graph, smooth(onnx.load(rows)).graph
    changed = {name.split(".")[-1] for name in constants(after).keys() - constants(before).keys()}
    assert changed == {"gain", "shift", "smoothed"}
    assert sum(name.endswith(".gain") for name in constants(after)) == 2, "one in each block"
    assert len(constants(after)) == len(constants(before)), "what they replace is gone"


def test_outlier_channels_cost_no_accuracy_where_they_would(rows: Path, images: Pixels, tmp_path: Path):
    plain = tmp_path / "plain.onnx"
    write_graph(toy_checkpoint().model, plain, "rows")
    expected = GraphRunner(plain, 4).logits(images)

    def error(runner: GraphRunner) -> float:
        return float(np.sqrt(((runner.logits(images) - expected) ** 2).mean()))

    ordinary = error(saved(quantize_by_row(smooth(onnx.load(plain))), tmp_path / "ordinary.onnx"))
    outliers = saved(quantize_by_row(smooth(onnx.load(rows))), tmp_path / "outliers.onnx")
    assert error(outliers) < 1.2 * ordinary


def test_factors_meet_in_the_middle():
    gain, bias = np.array([1, 100, 1], np.float32), np.array([0, 0, 0], np.float32)
    kernel = np.array([[3, 1], [0.03, -0.01], [-3, 2]], np.float32)
    by = factors(gain, bias, kernel)
    np.testing.assert_allclose(by, [1, 100, 1], rtol=1e-5)
    np.testing.assert_allclose(3 * gain / by, np.abs(kernel * by[:, np.newaxis]).max(axis=1), rtol=1e-5)


def test_a_shift_counts_as_the_gain_does():
    by = factors(np.zeros(1, np.float32), np.full(1, 8, np.float32), np.full((1, 1), 2, np.float32))
    np.testing.assert_allclose(by, [2], rtol=1e-6)


@pytest.mark.parametrize(("gain", "weight"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_dead_channel_stays_as_it_is(gain: float, weight: float):
    by = factors(np.array([gain], np.float32), np.zeros(1, np.float32), np.array([[weight]], np.float32))
    assert by.tolist() == [1.0]


def test_without_it_outliers_cost_accuracy(rows: Path, images: Pixels, tmp_path: Path):
    expected = GraphRunner(rows, 4).logits(images)
    bare = saved(quantize_by_row(onnx.load(rows)), tmp_path / "bare.onnx").logits(images)
    smoothed = saved(quantize_by_row(smooth(onnx.load(rows))), tmp_path / "smoothed.onnx").logits(images)
    errors = [float(np.sqrt(((found - expected) ** 2).mean())) for found in (bare, smoothed)]
    assert errors[0] > 1.5 * errors[1]
