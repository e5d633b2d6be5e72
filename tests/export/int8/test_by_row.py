"""An int8 graph that takes its scales from every row: no pictures, no neighbours."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from export.int8.by_row import quantize_by_row, write_int8_by_row
from export.int8.kernels import pairs_fit_int16, quantize_kernel
from export.parity import GraphRunner
from export.quantize import write_int8
from export.to_onnx import write_graph
from model.preprocess import Pixels, patchify
from tests.export.test_neighbours import largest_difference
from tests.export.toy_checkpoints import noise, toy_checkpoint
from tests.export.toy_graphs import constants, dense_graph, op_types
from tests.processors import exact_product, int8_logits, product_in_int16_pairs

IDENTITY = (np.eye(3), np.zeros(3))
GENERATOR = np.random.default_rng(2)
LAYERS = [(GENERATOR.normal(size=(6, 5)), np.zeros(5)), (GENERATOR.normal(size=(5, 3)), np.array([0.5, -1.0, 2.0]))]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("by_row") / "rows.onnx"
    write_graph(toy_checkpoint().model, path, "rows")
    return path


@pytest.fixture(scope="module")
def by_row(rows: Path) -> Path:
    write_int8_by_row(rows, rows.with_name("int8.onnx"), noise(8), 4)
    return rows.with_name("int8.onnx")


def run(graph: onnx.ModelProto, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"patches": patches})
    return np.asarray(logits)


# --- the graph ---


def test_every_dense_layer_but_the_head_multiplies_bytes(by_row: Path):
    counts = op_types(by_row)
    assert counts["MatMulIntegerToFloat"] == 9, "the stem and two blocks with two MLPs of two layers"
    assert counts["QuantizeLinear"] == 8, "the pixels are bytes as they come"
    assert counts["Gemm"] == 1, "the head stays in float"
    assert (counts["ReduceMax"], counts["ReduceMin"]) == (8, 4), "what comes from a GELU has a known least"
    assert "DynamicQuantizeLinear" not in counts, "whose scale is that of the whole batch"


@pytest.mark.parametrize("way", ["by row", "by pictures"])
def test_a_hidden_layer_of_the_head_stays_in_float_with_it(way: str, tmp_path: Path):
    write_graph(toy_checkpoint(head_hidden_dim=20).model, tmp_path / "rows.onnx", "rows")
    write = write_int8_by_row if way == "by row" else write_int8
    write(tmp_path / "rows.onnx", tmp_path / "int8.onnx", noise(8), 4)
    counts = op_types(tmp_path / "int8.onnx")
    assert (counts["MatMulIntegerToFloat"], counts["QuantizeLinear"], counts["Gemm"]) == (9, 8, 2)
    exact, rounded = (GraphRunner(tmp_path / f"{name}.onnx", 4, "fp32").logits(noise(6)) for name in ("rows", "int8"))
    assert np.abs(exact - rounded).max() < 0.1 * np.ptp(exact)


def test_kernels_are_exact_on_processors_without_vnni(by_row: Path):
    kernels = [array for name, array in constants(onnx.load(by_row).graph).items() if name.endswith(".kernel")]
    assert len(kernels) == 9
    assert all(kernel.dtype == np.int8 and pairs_fit_int16(kernel) for kernel in kernels)


def test_such_a_processor_gives_the_same_logits(by_row: Path, images: Pixels):
    graph, patches = onnx.load(by_row), patchify(images[:4], 4)
    exact = int8_logits(graph, patches, exact_product)
    np.testing.assert_array_equal(int8_logits(graph, patches, product_in_int16_pairs), exact)
    np.testing.assert_allclose(run(graph, patches), exact, rtol=0, atol=0.01 * float(np.ptp(exact)))


def test_the_fp32_graph_stays_as_it_was(rows: Path):
    graph = onnx.load(rows)
    before = graph.SerializeToString()
    quantize_by_row(graph)
    assert graph.SerializeToString() == before


# --- the arithmetic ---


def test_a_row_is_rounded_by_its_own_largest_number():
    patches = GENERATOR.integers(0, 256, (7, 1, 6), dtype=np.uint8)
    stem, last = LAYERS
    found = run(quantize_by_row(dense_graph([stem, last, IDENTITY])), patches)
    in_bytes, scale = quantize_kernel(np.float32(stem[0]))
    activations = (patches[:, 0].astype(np.float64) - 128) @ (in_bytes * scale) + 128 * np.float32(stem[0]).sum(axis=0)
    step = np.abs(activations).max(axis=1, keepdims=True) / 127
    in_bytes, scale = quantize_kernel(np.float32(last[0]))
    expected = np.rint(activations / step) * step @ (in_bytes * scale) + last[1]
    near = step.max() * 1e-3 + (np.abs(in_bytes * scale).max(axis=0) * step)  # one byte may fall on the other side
    assert (np.abs(found - expected) <= near).all()


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_rows_of_any_size_keep_their_precision(factor: float):
    stem, (kernel, bias) = LAYERS
    graph = dense_graph([(factor * stem[0], stem[1]), (kernel, bias), IDENTITY])
    patches = GENERATOR.integers(0, 256, (64, 1, 6), dtype=np.uint8)
    found, expected = run(quantize_by_row(graph), patches), run(graph, patches)
    assert np.abs(found - expected).max() < 0.03 * float(np.ptp(expected - bias)) + 1e-6


def test_a_row_of_zeros_gives_the_bias():
    graph = dense_graph([(np.ones((6, 5)), np.full(5, -6 * 128)), LAYERS[1], IDENTITY])
    logits = run(quantize_by_row(graph), np.full((2, 1, 6), 128, np.uint8))
    np.testing.assert_allclose(logits, np.tile(LAYERS[1][1], (2, 1)), rtol=1e-6)


def test_a_loud_picture_takes_nothing_from_a_quiet_one():
    graph = quantize_by_row(dense_graph([*LAYERS, IDENTITY]))
    quiet, loud = np.full((1, 1, 6), 1, np.uint8), np.full((1, 1, 6), 255, np.uint8)
    np.testing.assert_array_equal(run(graph, np.concatenate([quiet, loud]))[:1], run(graph, quiet))


# --- a network ---


def test_logits_are_near_the_networks_and_rounded(by_row: Path, rows: Path, images: Pixels):
    expected = GraphRunner(rows, 4).logits(images)
    difference = np.abs(GraphRunner(by_row, 4).logits(images) - expected).max() / np.ptp(expected)
    assert 1e-4 < difference < 0.03


def test_an_answer_is_the_same_in_any_batch(by_row: Path, images: Pixels):
    assert largest_difference(GraphRunner(by_row, 4).logits, images[::10]) < 1e-6
