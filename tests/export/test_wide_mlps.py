"""A wide MLP in parts is the same network; in the graph each part is two products, and the second adds to the sum."""

import numpy as np
import onnx
import pytest
import torch

from export.bundle import Published, publish
from export.parity import THRESHOLDS, GraphRunner
from export.to_onnx import TorchNetwork
from export.wide_mlps import SplitMlp, split_wide_mlps
from model.network.checkpoint import Checkpoint, torch_logits
from model.network.mixer import MixerBlock, MlpBlock, MlpMixer
from model.preprocess import Pixels
from tests.export.toy_checkpoints import clear_images, toy_checkpoint
from tests.export.toy_graphs import constants, op_types

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def wide_images() -> Pixels:
    return clear_images(toy_checkpoint(channels_mlp_dim=1024).model)


@pytest.fixture
def wide(wide_images: Pixels) -> Checkpoint:
    """The rows of its hidden layers would collide."""
    return toy_checkpoint(channels_mlp_dim=1024, images=wide_images)


@pytest.fixture(scope="module")
def published(wide_images: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(
        TorchNetwork(toy_checkpoint(channels_mlp_dim=1024, images=wide_images)), tmp_path_factory.mktemp("wide"),
        precisions=("fp32", "int8"),
    )  # fmt: skip


def channel_mixings(model: MlpMixer) -> list[torch.nn.Module]:
    return [block.channel_mixing for block in model.blocks if isinstance(block, MixerBlock)]


# --- the same network ---


@pytest.mark.parametrize("width", [8, 10, 24, 100])
def test_parts_of_any_width_add_up_to_the_whole(width: int):
    torch.manual_seed(0)
    mlp, rows = MlpBlock(6, 24, "erf"), torch.randn(5, 6)
    torch.nn.init.normal_(mlp.dense_0.bias)
    torch.nn.init.normal_(mlp.dense_1.bias)
    with torch.inference_mode():
        torch.testing.assert_close(SplitMlp(mlp, width)(rows), mlp(rows), rtol=0, atol=1e-6)


def test_only_the_copy_is_in_parts_and_the_weights_are_its_own(wide: Checkpoint, wide_images: Pixels):
    before = torch_logits(wide.model, wide_images)
    copied = split_wide_mlps(wide.model)
    assert [type(mlp) for mlp in channel_mixings(copied)] == [SplitMlp] * 2
    assert [type(mlp) for mlp in channel_mixings(wide.model)] == [MlpBlock] * 2
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(torch_logits(wide.model, wide_images), before)


def test_narrow_mlps_are_left_as_they_are():
    narrow = toy_checkpoint().model
    assert [type(mlp) for mlp in channel_mixings(split_wide_mlps(narrow))] == [MlpBlock] * 2


# --- the graphs ---


def test_in_fp32_every_part_is_two_gemms_and_the_sum_is_inside_the_second(published: Published):
    path = published.graphs["fp32"].path
    counts = op_types(path)
    assert counts["Gemm"] == 14, (
        "the stem, two blocks with a token-mixing MLP of two layers and two parts of two, the head"
    )
    assert counts["Gelu"] == 6, "one for each token-mixing MLP and for each part"
    assert counts["Add"] == 4, "the skip connections alone"
    assert not {"Slice", "Split", "Concat", "MatMul"} & counts.keys()
    graph = onnx.load(path).graph
    gemms = {node.output[0]: node for node in graph.node if node.op_type == "Gemm"}
    assert sum(gemm.input[2] in gemms for gemm in gemms.values()) == 2, "a second part adds to the first, once a block"


def test_no_kernel_of_the_fp32_graph_has_colliding_rows_and_none_is_stored_twice(
    published: Published, wide: Checkpoint
):
    stored = constants(onnx.load(published.graphs["fp32"].path).graph)
    kernels = [array for array in stored.values() if array.ndim == 2]
    assert max(max(kernel.shape) for kernel in kernels) == 512
    weights = [parameter.numel() for parameter in wide.model.parameters() if parameter.ndim == 2]
    assert sum(kernel.size for kernel in kernels) == sum(weights)


def test_int8_is_made_from_whole_layers(published: Published):
    counts = op_types(published.graphs["int8"].path)
    assert counts["MatMulIntegerToFloat"] == 9, "the stem and two blocks with two MLPs of two layers"
    assert counts["Gelu"] == 4
    assert {path.name for path in published.graphs["int8"].path.parent.iterdir()} == {"fp32.onnx", "int8.onnx"}


def test_the_graph_in_parts_answers_as_torch_does(published: Published, wide: Checkpoint, wide_images: Pixels):
    found = GraphRunner(published.graphs["fp32"].path, 4).logits(wide_images)
    expected = torch_logits(wide.model, wide_images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * float(np.ptp(expected)))
    assert published.graphs["fp32"].parity.batch_difference <= THRESHOLDS["fp32"].batch_difference
