"""The range of each dense layer's inputs, measured on pictures: an int8 graph takes its fixed scales from it.

Scales that are fixed are the same for every batch, so a picture's answer does not depend on its neighbours.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.dense import find_dense
from model.preprocess import Pixels, patchify

_LEVELS = 255
_BATCH_SIZE = 16


@dataclass(frozen=True)
class Scale:
    """value = scale * (byte - zero_point), bytes in 0..255."""

    scale: float
    zero_point: int


def calibrate(graph_path: Path, pixels: Pixels, patch_size: int, *, percentile: float = 100.0) -> dict[str, Scale]:
    """A scale for every input of a dense layer of the fp32 graph, from uint8 [n, H, W, C].

    percentile: 100 keeps the extremes; less cuts that share of each batch's values off at either end, and takes the
    mean over the batches.
    """
    graph = onnx.load(graph_path)
    names = [dense.input for dense in find_dense(graph.graph)]
    session = exposing(graph, names)
    patches_name = graph.graph.input[0].name
    ends: list[list[NDArray[np.float64]]] = []
    for start in range(0, len(pixels), _BATCH_SIZE):
        patches = patchify(np.ascontiguousarray(pixels[start : start + _BATCH_SIZE]), patch_size)
        ends.append([_ends(values, percentile) for values in session.run(names, {patches_name: patches})])
    batches = np.array(ends)  # batches names 2
    return {name: _scale(batches[:, index], percentile) for index, name in enumerate(names)}


def exposing(graph: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    """A session without graph optimizations that also returns the values of these names."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with TemporaryDirectory() as folder:  # a file, as each copy in memory is as large as the network
        path = Path(folder) / "exposed.onnx"
        _save_exposed(graph, names, path)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _save_exposed(graph: onnx.ModelProto, names: list[str], path: Path) -> None:
    outputs = list(graph.graph.output)
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    try:
        onnx.save(graph, path)
    finally:
        del graph.graph.output[len(outputs) :]


def _ends(values: NDArray[np.float32], percentile: float) -> NDArray[np.float64]:
    """The lowest and the highest value [2] of an array, or its percentiles."""
    if percentile == 100:
        return np.array([values.min(), values.max()], dtype=np.float64)
    return cast(NDArray[np.float64], np.percentile(values, [100 - percentile, percentile]))


def _scale(ends: NDArray[np.float64], percentile: float) -> Scale:
    """From the lowest and highest values [batches, 2]. Zero is always inside the range, and exact."""
    low, high = (ends[:, 0].min(), ends[:, 1].max()) if percentile == 100 else ends.mean(axis=0)
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = max((high - low) / _LEVELS, float(np.finfo(np.float32).tiny))
    return Scale(scale, int(np.clip(round(-low / scale), 0, _LEVELS)))
