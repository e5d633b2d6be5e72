"""Takes outlier channels out of what layer norms give to dense layers: the same function, easier to round.

A layer norm whose gain is large in a few channels gives rows that a few numbers stretch, and a byte has 256 steps for
them all. Gain and bias are divided by a factor for each channel, and the rows of the kernel behind them multiplied by
it. The factors come from the weights alone (SmoothQuant, arXiv 2211.10438, takes them from pictures): a layer norm's
output is known without any, as its channels have a mean square of one before the gain.

Only where the kernel mixes the channels: in token mixing a channel is a row, and has a scale of its own.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from export.dense import Dense, find_dense

_DEVIATIONS = 3  # how far from its mean a channel is taken to go


def smooth(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph in which gains and kernels share the channels' ranges evenly."""
    smoothed = onnx.ModelProto()
    smoothed.CopyFrom(graph)
    producers = {name: node for node in smoothed.graph.node for name in node.output}
    uses = [name for node in smoothed.graph.node for name in node.input]
    for layer in find_dense(graph.graph):
        norm = producers.get(layer.input)
        if norm is not None and norm.op_type == "LayerNormalization" and uses.count(layer.input) == 1:
            _share(smoothed.graph, norm, producers[layer.output], layer)
    _forget_unused(smoothed.graph)
    return smoothed


def factors(gain: NDArray[np.float32], bias: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each of the K channels is divided by: [K] and [K] and [K, N] -> [K]. Dead channels keep what they have."""
    activation = _DEVIATIONS * np.abs(gain) + np.abs(bias)
    weight = np.abs(kernel).max(axis=1)
    alive = (activation > 0) & (weight > 0)
    ratio = np.divide(activation, weight, out=np.ones_like(activation), where=alive)
    shared: NDArray[np.float32] = np.sqrt(ratio).astype(np.float32)
    return shared


def _share(graph: onnx.GraphProto, norm: NodeProto, gemm: NodeProto, layer: Dense) -> None:
    """Give a layer norm and the dense layer behind it constants of their own, divided and multiplied by the factors."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    gain = numpy_helper.to_array(stored[norm.input[1]])
    bias = numpy_helper.to_array(stored[norm.input[2]]) if len(norm.input) > 2 else np.zeros_like(gain)
    by = factors(gain, bias, layer.kernel)
    values = {"gain": gain / by, "shift": bias / by, "smoothed": layer.kernel * by[:, np.newaxis]}
    names = [f"{layer.output}.{name}" for name in values]
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
        for name, array in zip(names, values.values(), strict=True)
    )
    norm.input[:] = [norm.input[0], *names[:2]]
    gemm.input[1] = names[2]
    for attribute in gemm.attribute:
        if attribute.name == "transB":
            attribute.i = 0  # layer.kernel is [K, N]


def _forget_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
