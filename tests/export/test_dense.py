"""Every dense layer is found, with its kernel the right way round; what is none is a bug."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.dense import find_dense
from model.errors import ExportError
from model.network.checkpoint import Checkpoint
from tests.export.toy_graphs import dense_graph

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)  # K N
BIAS = np.array([5, 6, 7], dtype=np.float32)


def test_stem_then_two_for_each_mlp_then_head(fp32: Path, checkpoint: Checkpoint):
    layers = find_dense(onnx.load(fp32).graph)
    token_mixing, channel_mixing = [(9, 8), (8, 9)], [(16, 24), (24, 16)]
    assert [layer.kernel.shape for layer in layers] == [
        (48, 16), *token_mixing, *channel_mixing, *token_mixing, *channel_mixing, (16, 4)
    ]  # fmt: skip
    assert (layers[-1].input, layers[-1].output) == ("embedding", "logits")
    folded = checkpoint.model.folded_stem()
    np.testing.assert_array_equal(layers[0].kernel, folded.weight.detach().numpy().T)
    np.testing.assert_array_equal(layers[0].bias, folded.bias.detach().numpy())


@pytest.mark.parametrize(("attributes", "stored"), [({}, KERNEL), ({"transB": 1}, KERNEL.T)], ids=["KN", "NK"])
def test_a_kernel_is_k_by_n_however_it_is_stored(attributes: dict[str, Any], stored: np.ndarray):
    (layer,) = find_dense(dense_graph([(stored, BIAS)], attributes=attributes).graph)
    np.testing.assert_array_equal(layer.kernel, KERNEL)
    np.testing.assert_array_equal(layer.bias, BIAS)
    assert (layer.input, layer.output) == ("rows", "logits")


@pytest.mark.parametrize("attributes", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}], ids=str)
def test_a_product_that_does_more_than_that_is_a_bug(attributes: dict[str, Any]):
    with pytest.raises(ExportError, match=r"gemm_0 is not a dense layer .* This is a bug"):
        find_dense(dense_graph([(KERNEL, BIAS)], attributes=attributes).graph)


@pytest.mark.parametrize("left_out", ["kernel_0", "bias_0"])
def test_a_kernel_or_bias_that_is_computed_is_a_bug(left_out: str):
    graph = dense_graph([(KERNEL, BIAS)]).graph
    kept = [tensor for tensor in graph.initializer if tensor.name != left_out]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    with pytest.raises(ExportError, match="constant kernel and bias"):
        find_dense(graph)


def test_a_bias_that_was_left_out_is_zero():
    graph = dense_graph([(KERNEL, BIAS)]).graph
    graph.node[-1].input.pop()
    (layer,) = find_dense(graph)
    assert (layer.bias.dtype, layer.bias.tolist()) == (np.float32, [0, 0, 0])


def test_looking_changes_nothing(fp32: Path):
    graph = onnx.load(fp32)
    before = graph.SerializeToString()
    for layer in find_dense(graph.graph):
        assert layer.kernel.dtype == layer.bias.dtype == np.float32
    assert graph.SerializeToString() == before
