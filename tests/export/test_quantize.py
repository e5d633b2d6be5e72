"""Dense layers multiply bytes by fixed scales; all else stays in float."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from export.calibration import Scale
from export.dense import find_dense
from export.int8.kernels import pairs_fit_int16, quantize_kernel
from export.parity import GraphRunner
from export.quantize import quantize, write_int8
from model.network.checkpoint import Checkpoint
from model.preprocess import Pixels, patchify
from tests.export.toy_graphs import constants, dense_graph, op_types
from tests.processors import product_in_int16_pairs

KERNELS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(-1e4, 1e4, width=32)
)


def products(graph: onnx.GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type == "MatMulIntegerToFloat"]


def run(graph: onnx.ModelProto, patches: NDArray[np.uint8], *names: str) -> list[NDArray[np.float32]]:
    """These values of the graph, whether they are outputs of it or not."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(graph)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name != "logits"]
    exposed.graph.output.extend(outputs)
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {"patches": patches})


# --- kernels ---


@settings(deadline=None, max_examples=200)
@given(KERNELS)
def test_a_kernel_is_at_most_half_a_step_of_its_column_off(kernel: NDArray[np.float32]):
    in_bytes, scale = quantize_kernel(kernel)
    assert (in_bytes.dtype, scale.dtype) == (np.int8, np.float32)
    assert (in_bytes.shape, scale.shape) == (kernel.shape, kernel.shape[1:])
    assert in_bytes.min() >= -127, "symmetric"
    assert (scale > 0).all()
    back = in_bytes * scale.astype(np.float64)
    assert (np.abs(back - kernel) <= scale * (0.5 + 1e-4)).all()
    assert not back[kernel == 0].any(), "zero stays zero"


@pytest.mark.heavy
@settings(deadline=None, max_examples=200)
@given(KERNELS)
def test_no_pair_of_rows_leaves_16_bits(kernel: NDArray[np.float32]):
    in_bytes, _ = quantize_kernel(kernel)
    assert pairs_fit_int16(in_bytes)
    most = np.full((1, len(kernel)), 255, np.uint8)
    for only in (np.maximum(in_bytes, 0), np.minimum(in_bytes, 0), in_bytes):  # 0 where a byte would take off again
        np.testing.assert_array_equal(product_in_int16_pairs(most, only), most.astype(np.int32) @ only)


def test_pairs_that_fit_are_told_from_those_that_do_not():
    assert pairs_fit_int16(np.array([[127, -64, 100], [1, -64, -127], [128 - 1, 0, 0]], np.int8))
    assert not pairs_fit_int16(np.array([[0], [0], [65], [64]], np.int8))
    assert not pairs_fit_int16(np.array([[0], [0], [-65], [-64]], np.int8))
    assert pairs_fit_int16(np.array([[0], [65], [64], [0]], np.int8)), "rows 1 and 2 are no pair"


def test_a_kernel_whose_pairs_would_not_fit_gets_a_larger_step():
    in_bytes, scale = quantize_kernel(np.array([[1.0, 1.0], [1.0, -1.0]], dtype=np.float32))
    assert in_bytes.tolist() == [[64, 127], [64, -127]]
    np.testing.assert_allclose(scale, [2 / 127, 1 / 127], rtol=1e-6)


def test_every_column_uses_all_of_its_bytes():
    kernel = np.array([[1.0, -300.0, 0.0], [-0.5, 150.0, 0.0]], dtype=np.float32)
    in_bytes, scale = quantize_kernel(kernel)
    assert in_bytes.tolist() == [[127, -127, 0], [-64, 64, 0]]
    np.testing.assert_allclose(scale[:2], [1 / 127, 300 / 127], rtol=1e-6)


# --- the graph ---


def test_every_dense_layer_but_the_head_multiplies_bytes(int8: Path):
    counts = op_types(int8)
    assert counts["MatMulIntegerToFloat"] == 9, "the stem and two blocks with two MLPs of two layers"
    assert counts["Gemm"] == 1
    assert counts["QuantizeLinear"] == 8, "the pixels are bytes as they come"
    assert (counts["LayerNormalization"], counts["Gelu"], counts["Add"]) == (5, 4, 4), "in float, as before"
    gone = {"Cast", "MatMul", "MatMulInteger", "DequantizeLinear", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"}
    assert not gone & counts.keys()


def test_the_head_stays_in_float(int8: Path):
    graph = onnx.load(int8).graph
    (head,) = (node for node in graph.node if node.op_type == "Gemm")
    assert list(head.output) == ["logits"]
    assert constants(graph)[head.input[1]].dtype == np.float32


def test_patches_enter_the_first_product_as_they_come(int8: Path):
    graph = onnx.load(int8).graph
    (reshape,) = (node for node in graph.node if "patches" in node.input)
    (stem,) = (node for node in graph.node if reshape.output[0] in node.input)
    assert (reshape.op_type, stem.op_type) == ("Reshape", "MatMulIntegerToFloat")


def test_tokens_are_transposed_as_bytes_on_their_way_into_token_mixing(int8: Path):
    graph = onnx.load(int8).graph
    producers = {name: node for node in graph.node for name in node.output}
    origins = []
    for node in (node for node in graph.node if node.op_type == "Transpose"):
        origin = node
        while origin.op_type in {"Transpose", "Reshape"}:
            origin = producers[origin.input[0]]
        origins.append(origin.op_type)
    assert origins == ["QuantizeLinear", "MatMulIntegerToFloat"] * 2, "what comes out of the product is float"


def test_scales_and_zero_points_are_constants_of_the_graph(int8: Path):
    graph = onnx.load(int8).graph
    stored = constants(graph)
    for product in products(graph):
        _, kernel, row_scale, kernel_scale, zero_point, kernel_zero_point, bias = product.input
        assert stored[kernel].dtype == np.int8
        assert stored[kernel].min() >= -127
        assert pairs_fit_int16(stored[kernel])
        assert (stored[row_scale].dtype, stored[row_scale].shape) == (np.float32, ())
        assert (stored[zero_point].dtype, stored[zero_point].shape) == (np.uint8, ())
        assert stored[kernel_scale].shape == stored[bias].shape == stored[kernel].shape[1:], "one for each column"
        assert len(np.unique(stored[kernel_scale])) > 1
        assert kernel_zero_point == ""
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert set(node.input[1:]) <= stored.keys()


def test_bytes_are_quantised_by_the_scale_that_their_product_uses(int8: Path):
    graph = onnx.load(int8).graph
    scales = {tuple(node.input[1:]) for node in graph.node if node.op_type == "QuantizeLinear"}
    used = {(product.input[2], product.input[4]) for product in products(graph)[1:]}
    assert scales == used
    assert len(used) == 8


def test_nothing_is_stored_that_is_not_used(int8: Path, fp32: Path):
    graph = onnx.load(int8).graph
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    weights = {layer.kernel.shape for layer in find_dense(onnx.load(fp32).graph)[:-1]}
    kept = [array.shape for array in constants(graph).values() if array.dtype == np.float32]
    assert not weights & set(kept), "no float kernel is carried along"


def test_gelu_is_by_tanh(int8: Path):
    gelus = [node for node in onnx.load(int8).graph.node if node.op_type == "Gelu"]
    assert all([attribute.s for attribute in node.attribute] == [b"tanh"] for node in gelus)


def test_the_fp32_graph_stays_as_it_was(fp32: Path, images: Pixels, tmp_path: Path):
    before = fp32.read_bytes()
    write_int8(fp32, tmp_path / "int8.onnx", images, 4)
    assert fp32.read_bytes() == before
    graph = onnx.load(fp32)
    quantize(graph, {layer.input: Scale(0.1, 128) for layer in find_dense(graph.graph)}, 128)
    assert graph.SerializeToString() == onnx.load(fp32).SerializeToString()


# --- the arithmetic ---

DEEP = [
    (np.random.default_rng(2).normal(size=(6, 5)), np.random.default_rng(3).normal(size=5)),
    (np.random.default_rng(4).normal(size=(5, 3)), np.random.default_rng(5).normal(size=3)),
]


def test_a_product_is_that_of_the_rounded_kernel_and_the_rounded_rows():
    (stem, stem_bias), _ = DEEP
    graph = quantize(dense_graph([*DEEP, (np.eye(3), np.zeros(3))]), {"dense_0": Scale(8.0, 100)}, 90)
    patches = np.random.default_rng(6).integers(0, 256, (7, 1, 6), dtype=np.uint8)
    first, second = run(graph, patches, "dense_0", "dense_1")
    rows = patches[:, 0].astype(np.float64)
    in_bytes, scale = quantize_kernel(stem.astype(np.float32))
    folded = stem_bias + 90 * stem.astype(np.float32).sum(axis=0)
    np.testing.assert_allclose(first, (rows - 90) @ (in_bytes * scale) + folded, rtol=1e-4, atol=1e-3)
    seen = (np.clip(np.rint(first / 8.0) + 100, 0, 255) - 100) * 8.0
    in_bytes, scale = quantize_kernel(DEEP[1][0].astype(np.float32))
    np.testing.assert_allclose(second, seen @ (in_bytes * scale) + DEEP[1][1], rtol=1e-4, atol=1e-2)


def test_a_picture_that_is_the_mean_all_over_enters_without_any_error():
    graph = dense_graph([*DEEP, (np.eye(3), np.zeros(3))])
    patches = np.full((2, 1, 6), 90, dtype=np.uint8)
    scales = {"dense_0": Scale(1.0, 128)}
    (expected,) = run(graph, patches, "dense_0")
    (found,) = run(quantize(graph, scales, 90), patches, "dense_0")
    (elsewhere,) = run(quantize(graph, scales, 0), patches, "dense_0")
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    assert np.abs(elsewhere - expected).max() > 1e-2


def test_a_column_of_zeros_gives_its_bias():
    kernel = np.array([[1.0, 0.0], [2.0, 0.0]])
    layers = [(kernel, [0.5, -7.0]), (np.eye(2), np.zeros(2))]
    (logits,) = run(quantize(dense_graph(layers), {}, 30), np.array([[[3, 4]], [[255, 0]]], dtype=np.uint8), "logits")
    np.testing.assert_allclose(logits[:, 1], -7.0, rtol=1e-6)
    np.testing.assert_allclose(logits[:, 0], [11.5, 255.5], rtol=0.02)


@pytest.mark.parametrize("offset", [0.0, 40.0, -40.0])
def test_an_activation_that_never_changes_is_kept(offset: float, tmp_path: Path):
    layers = [([[0.0]], [offset]), ([[3.0]], [1.0]), ([[1.0]], [0.0])]
    onnx.save(dense_graph(layers), tmp_path / "fp32.onnx")
    pixels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    write_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", pixels, 1)
    logits = GraphRunner(tmp_path / "int8.onnx", 1).logits(pixels)
    np.testing.assert_allclose(logits, 3 * offset + 1, rtol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_activations_of_one_sign_use_every_byte_and_zero_is_still_zero(sign: float, tmp_path: Path):
    layers = [([[sign]], [sign * 255]), ([[1.0]], [0.0]), ([[1.0]], [0.0])]
    onnx.save(dense_graph(layers), tmp_path / "fp32.onnx")
    pixels = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    write_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", pixels, 1)
    stored = constants(onnx.load(tmp_path / "int8.onnx").graph)
    assert stored["dense_1.zero_point"] == (0 if sign > 0 else 255)
    logits = GraphRunner(tmp_path / "int8.onnx", 1).logits(pixels)
    np.testing.assert_allclose(logits[:, 0], sign * (np.arange(256) + 255), atol=1.1 + 0.01 * 510)


def test_what_lies_beyond_the_calibrated_range_is_clipped_to_it(tmp_path: Path):
    layers = [([[1.0]], [0.0]), ([[1.0]], [0.0]), ([[1.0]], [0.0])]
    onnx.save(dense_graph(layers), tmp_path / "fp32.onnx")
    write_int8(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", np.full((4, 1, 1, 1), 100, dtype=np.uint8), 1)
    logits = GraphRunner(tmp_path / "int8.onnx", 1).logits(np.array([50, 100, 255], dtype=np.uint8).reshape(3, 1, 1, 1))
    np.testing.assert_allclose(logits[:, 0], [50, 100, 100], atol=1)


def test_logits_are_near_the_networks_and_rounded(int8: Path, checkpoint: Checkpoint, fp32: Path, images: Pixels):
    expected = GraphRunner(fp32, 4).logits(images)
    difference = np.abs(GraphRunner(int8, 4).logits(images) - expected).max() / np.ptp(expected)
    assert 1e-4 < difference < 0.03


def test_the_embedding_is_of_the_same_size(int8: Path, fp32: Path, images: Pixels):
    embeddings = [
        onnxruntime.InferenceSession(path).run(["embedding"], {"patches": patchify(images, 4)})[0]
        for path in (fp32, int8)
    ]
    np.testing.assert_allclose(embeddings[1], embeddings[0], rtol=0, atol=0.05 * float(np.ptp(embeddings[0])))
