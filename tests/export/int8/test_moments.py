"""What a dense layer's inputs were, on average of their products."""

from pathlib import Path

import numpy as np
import onnx

from export.dense import find_dense
from export.int8.moments import MomentsInTurn, measure_moments
from export.to_onnx import write_graph
from tests.export.toy_checkpoints import noise, toy_checkpoint
from tests.export.toy_graphs import dense_graph


def test_they_are_those_of_the_rows_and_the_stems_pixels_are_centred():
    kernel = np.random.default_rng(4).normal(size=(3, 2))
    graph = dense_graph([(kernel, np.zeros(2)), (np.eye(2), np.zeros(2)), (np.eye(2), np.zeros(2))])
    pixels = np.random.default_rng(5).integers(0, 256, (10, 1, 1, 3), dtype=np.uint8)
    moments = measure_moments(graph, pixels, 1, 128, ["rows", "dense_0"])
    centred = pixels.reshape(-1, 3).astype(np.float64) - 128
    np.testing.assert_allclose(moments["rows"], centred.T @ centred, rtol=1e-5)
    after = pixels.reshape(-1, 3) @ kernel
    np.testing.assert_allclose(moments["dense_0"], after.T @ after, rtol=1e-4)


def test_every_layer_but_the_head_has_some(tmp_path: Path):
    write_graph(toy_checkpoint().model, tmp_path / "rows.onnx", "rows")
    graph = onnx.load(tmp_path / "rows.onnx")
    layers = find_dense(graph.graph)
    few, all_at_once = (MomentsInTurn(graph, noise(5), 4, 128, most_bytes) for most_bytes in (1, 1 << 30))
    for layer in layers[:-1]:
        moments = few.of(layer.input)
        assert moments.shape == (len(layer.kernel), len(layer.kernel))
        np.testing.assert_array_equal(moments, all_at_once.of(layer.input))
