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
_MOST_BYTES = 160 << 20  # of the moments that are held at once


class MomentsInTurn:
    """Moments [K, K] of each dense layer's inputs, for layers that are asked for one after the other.

    Those of a large network fill gigabytes, so they are measured for a few layers at a time, `most_bytes` of them.
    `pixels`: uint8 [n, H, W, C]. `pixel_mean`: what the stem's product subtracts from the pixels.
    """

    def __init__(
        self, graph: onnx.ModelProto, pixels: Pixels, patch_size: int, pixel_mean: int, most_bytes: int = _MOST_BYTES
    ) -> None:
        self._graph, self._pixels = graph, pixels
        self._patch_size, self._pixel_mean = patch_size, pixel_mean
        self._most_bytes = most_bytes
        self._held: dict[str, Moments] = {}

    def of(self, name: str) -> Moments:
        """Those of the layer with this input, in the order of the graph."""
        if name not in self._held:
            self._held.clear()
            names = self._from(name)
            self._held = measure_moments(self._graph, self._pixels, self._patch_size, self._pixel_mean, names)
        return self._held[name]

    def _from(self, name: str) -> list[str]:
        """The names of this layer's input and of those after it, as many as may be held."""
        layers = before_head(self._graph.graph)
        start = [layer.input for layer in layers].index(name)
        names: list[str] = []
        num_bytes = 0
        for layer in layers[start:]:
            num_bytes += 8 * len(layer.kernel) ** 2
            if names and num_bytes > self._most_bytes:
                break
            names.append(layer.input)
        return names


def measure_moments(
    graph: onnx.ModelProto, pixels: Pixels, patch_size: int, pixel_mean: int, names: list[str]
) -> dict[str, Moments]:
    """Moments [K, K] by the name of these dense layers' inputs, from uint8 [n, H, W, C]."""
    stem = before_head(graph.graph)[0].input
    moments: dict[str, Moments] = {}
    for values in _inputs(graph, names, pixels, patch_size):
        for name, rows in zip(names, values, strict=True):
            some = np.ascontiguousarray(rows[:: max(1, len(rows) // _MOST_ROWS)]) - (pixel_mean if name == stem else 0)
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
