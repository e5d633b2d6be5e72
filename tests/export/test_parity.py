"""A graph that differs from its network is found out, at whatever batch size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from export.parity import FP32_TOLERANCE, GraphRunner, Parity, expect_equal, measure
from export.to_onnx import write_graph
from model.checkpoint import Checkpoint, torch_logits
from model.errors import ExportError
from model.preprocess import Pixels


@pytest.fixture
def graph_path(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "graph.onnx"
    write_graph(checkpoint.model, path)
    return path


def perturb(path: Path, name: str, amount: float) -> None:
    """Add `amount` to every element of one of the graph's weights."""
    graph = onnx.load(path)
    (tensor,) = (tensor for tensor in graph.graph.initializer if name in tensor.name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(amount), tensor.name))
    onnx.save(graph, path)


def test_a_faithful_graph_passes(checkpoint: Checkpoint, graph_path: Path, pictures: Pixels):
    parity = measure(checkpoint.model, graph_path, pictures)
    assert parity.num_pictures == len(pictures)
    assert parity.relative_difference < 1e-5
    assert parity.top1_agreement == 1
    expect_equal(parity, "fp32.onnx")


def test_a_bias_that_is_off_is_refused_with_the_bar_and_the_distance(
    checkpoint: Checkpoint, graph_path: Path, pictures: Pixels
):
    amount = 1e-3 * float(np.ptp(torch_logits(checkpoint.model, pictures)))
    perturb(graph_path, "head.bias", amount)
    parity = measure(checkpoint.model, graph_path, pictures)
    assert parity.relative_difference == pytest.approx(1e-3, rel=0.01)
    with pytest.raises(
        ExportError, match=r"fp32.onnx is not published: .* by 0.001 of their range; expected .* 0.0001"
    ):
        expect_equal(parity, "fp32.onnx")


def test_another_best_label_is_refused_even_where_the_logits_hardly_differ():
    with pytest.raises(ExportError, match=r"on 8 pictures its best label is torch's for 87.50%; expected all"):
        expect_equal(Parity(8, FP32_TOLERANCE / 2, 0.875), "fp32.onnx")


def test_logits_that_are_not_numbers_are_refused():
    with pytest.raises(ExportError, match="by nan of their range"):
        expect_equal(Parity(8, float("nan"), 1.0), "fp32.onnx")


def test_a_network_whose_logits_are_all_zero_still_compares(checkpoint: Checkpoint, tmp_path: Path, pictures: Pixels):
    torch.nn.init.zeros_(checkpoint.model.head.weight)
    torch.nn.init.zeros_(checkpoint.model.head.bias)
    write_graph(checkpoint.model, tmp_path / "zero.onnx")
    assert measure(checkpoint.model, tmp_path / "zero.onnx", pictures).relative_difference == 0


def test_the_runner_takes_pixels(checkpoint: Checkpoint, graph_path: Path, pictures: Pixels):
    found = GraphRunner(graph_path, 4).logits(pictures[:, ::-1])  # a view with negative strides, too
    np.testing.assert_allclose(found, torch_logits(checkpoint.model, pictures[:, ::-1].copy()), atol=1e-5)
