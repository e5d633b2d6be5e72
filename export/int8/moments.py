"""The second moments of each dense layer's inputs, measured on pictures: which errors of a kernel would show."""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

from export.calibration import exposing
from export.dense import before_head
from export.int8.rounding import Moments
from model.preprocess import Pixels, patchify

_BATCH_SIZE = 4  # the inputs of all layers are in memory at once
_MOST_ROWS = 2048  # of a batch, for a layer: evenly spaced ones tell as much


def measure_moments(graph: onnx.ModelProto, pixels: Pixels, patch_size: int, pixel_mean: int) -> dict[str, Moments]:
    """Moments [K, K] by the name of each dense layer's input but the head's, from uint8 [n, H, W, C].

    pixel_mean: what the stem's product subtracts from the pixels.
    """
    names = [layer.input for layer in before_head(graph.graph)]
    moments: dict[str, Moments] = {}
    for values in _inputs(graph, names, pixels, patch_size):
        for name, rows in zip(names, values, strict=True):
            some = np.ascontiguousarray(rows[:: max(1, len(rows) // _MOST_ROWS)]) - (
                pixel_mean if name == names[0] else 0
            )
            moments[name] = moments.get(name, 0.0) + (some.T @ some).astype(np.float64)
    return moments


def _inputs(
    graph: onnx.ModelProto, names: list[str], pixels: Pixels, patch_size: int
) -> Iterator[list[NDArray[np.float32]]]:
    """Those values of every batch, float32 [rows, K]."""
    session = exposing(graph, names)
    for start in range(0, len(pixels), _BATCH_SIZE):
        patches = patchify(np.ascontiguousarray(pixels[start : start + _BATCH_SIZE]), patch_size)
        yield session.run(names, {graph.graph.input[0].name: patches})
