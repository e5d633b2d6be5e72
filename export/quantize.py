"""fp32 graph -> int8 graph: its dense layers multiply bytes, by scales that are part of the graph. Measures nothing.

The fp32 graph has its dense layers whole, as export.to_onnx writes them in the form "rows".

Activations are unsigned bytes with one scale and zero point for each array, kernels signed bytes with one scale for
each column: what VNNI multiplies. MatMulIntegerToFloat does product, scales and bias in one pass over the output. Layer
norm, GELU, the skip connections and the head stay in float. docs/decisions/0007 says what else was measured.

Processors without VNNI multiply bytes by VPMADDUBSW, which adds the products of two neighbouring rows of a kernel into
a signed 16-bit number and saturates. Kernels are therefore scaled so that no such sum exceeds it: the graph is exact,
and gives the same answers, on both kinds of processor (docs/decisions/0014).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from export.calibration import Scale, calibrate
from export.dense import Dense, Kernel, find_dense
from export.graph import INPUT, LOGITS
from model.errors import ExportError
from model.preprocess import Pixels

_CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators
_MOST = 127  # of a byte of a kernel
_MOST_OF_A_PAIR = 127  # of two neighbouring bytes of one sign together; 128 once both are rounded up
_INT16_PRODUCTS = 32767 // 255  # the most that such a sum may be, as every byte of an activation may be 255
_MOVES = ("Reshape", "Transpose")  # done to bytes instead: a quarter of the size


def write_int8(fp32: Path, path: Path, pixels: Pixels, patch_size: int) -> None:
    """Write the int8 form of the graph `fp32`, with scales taken from uint8 [n, H, W, C]. Raises ExportError."""
    onnx.save(quantize(onnx.load(fp32), calibrate(fp32, pixels, patch_size), round(float(pixels.mean()))), path)


def quantize(graph: onnx.ModelProto, scales: Mapping[str, Scale], pixel_mean: int) -> onnx.ModelProto:
    """A copy of the graph with every dense layer but the head in bytes.

    scales: by the name of the layer's input. pixel_mean: subtracted by the stem's bias, as patches enter the stem as
    unsigned bytes; the kernel's rounding then matters less.
    Raises: ExportError.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(graph)
    writer = _Writer(quantized.graph, scales, pixel_mean)
    dense = {layer.output: layer for layer in find_dense(graph.graph) if layer.output != LOGITS}
    for node in graph.graph.node:
        if node.output[0] in dense:
            writer.write_dense(dense[node.output[0]])
        else:
            writer.write(node)
    writer.finish()
    quantized.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    return quantized


def quantize_kernel(kernel: Kernel) -> tuple[NDArray[np.int8], Kernel]:
    """Signed bytes [K, N] and a scale for each column [N]; their product approximates the kernel, and zero stays zero.

    The products of rows 2k and 2k + 1 fit 16 bits together: see `pairs_fit_int16`.
    """
    largest = np.maximum(np.abs(kernel).max(axis=0) / _MOST, _pair_sums(kernel).max(axis=0) / _MOST_OF_A_PAIR)
    scale = np.maximum(largest, np.finfo(np.float32).tiny)
    return np.rint(kernel / scale).astype(np.int8), scale.astype(np.float32)


def pairs_fit_int16(kernel: NDArray[np.int8]) -> bool:
    """Whether no activations (0..255) times rows 2k and 2k + 1 of a kernel [K, N] exceed 16 bits in sum."""
    return bool((_pair_sums(kernel.astype(np.int32)) <= _INT16_PRODUCTS).all())


def _pair_sums(kernel: NDArray[Any]) -> NDArray[Any]:
    """The larger of the positive and the negative sum in rows 2k and 2k + 1: [K, N] -> [K / 2, N]."""
    even = np.pad(np.ascontiguousarray(kernel), ((0, len(kernel) % 2), (0, 0)))  # K N, K even
    pairs = even.reshape(-1, 2, kernel.shape[1])  # K/2 2 N
    sums: NDArray[Any] = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1))
    return sums


class _Writer:
    """Collects the nodes and constants of the new graph."""

    def __init__(self, graph: onnx.GraphProto, scales: Mapping[str, Scale], pixel_mean: int) -> None:
        self._graph = graph
        self._scales = scales
        self._pixels = {node.output[0] for node in graph.node if node.op_type == "Cast" and node.input[0] == INPUT}
        self._producers = {name: node for node in graph.node for name in node.output}
        self._pixel_mean = pixel_mean
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}

    def write(self, node: NodeProto) -> None:
        """Copy a node; GELU becomes its tanh form: three quarters of the time, less than one byte's step apart."""
        copied = NodeProto()
        copied.CopyFrom(node)
        if node.op_type == "Gelu":
            del copied.attribute[:]
            copied.attribute.append(helper.make_attribute("approximate", "tanh"))
        self._nodes.append(copied)

    def write_dense(self, layer: Dense) -> None:
        """A dense layer in bytes."""
        origin, moves = self._origin(layer.input)
        if origin in self._pixels:
            scale, bias = Scale(1.0, self._pixel_mean), layer.bias + self._pixel_mean * layer.kernel.sum(axis=0)
        else:
            scale, bias = self._scales[layer.input], layer.bias
        kernel, kernel_scale = quantize_kernel(layer.kernel)
        if not pairs_fit_int16(kernel):
            raise ExportError(f"The int8 kernel of {layer.output} has pairs that leave 16 bits. This is a bug.")
        row_scale = self._constant(layer, "scale", np.float32(scale.scale))
        zero_point = self._constant(layer, "zero_point", np.uint8(scale.zero_point))
        rows = self._moved(layer, moves, self._in_bytes(layer, origin, row_scale, zero_point))
        inputs = [
            rows,
            self._constant(layer, "kernel", kernel),
            row_scale,
            self._constant(layer, "kernel_scale", kernel_scale),
            zero_point,
            "",  # the kernel's zero points are all zero
            self._constant(layer, "bias", bias),
        ]
        self._nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [layer.output], domain=_CONTRIB))

    def finish(self) -> None:
        """Put the nodes into the graph, without unused ones."""
        used = {output.name for output in self._graph.output}
        kept = []
        for node in reversed(self._nodes):
            if not used.isdisjoint(node.output):
                used.update(node.input)
                kept.append(node)
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(tensor for name, tensor in self._constants.items() if name in used)

    def _origin(self, value: str) -> tuple[str, list[NodeProto]]:
        """The value before its reshapes and transposes, and these nodes in order."""
        moves: list[NodeProto] = []
        while (producer := self._producers[value]).op_type in _MOVES:
            moves.insert(0, producer)
            value = producer.input[0]
        return value, moves

    def _in_bytes(self, layer: Dense, value: str, scale: str, zero_point: str) -> str:
        if value in self._pixels:
            return INPUT
        return self._append("QuantizeLinear", [value, scale, zero_point], f"{layer.output}.bytes")

    def _moved(self, layer: Dense, moves: Sequence[NodeProto], value: str) -> str:
        for index, move in enumerate(moves):
            value = self._append(move.op_type, [value, *move.input[1:]], f"{layer.output}.move{index}", move.attribute)
        return value

    def _append(self, op_type: str, inputs: list[str], output: str, attributes: Iterable[AttributeProto] = ()) -> str:
        node = helper.make_node(op_type, inputs, [output])
        node.attribute.extend(attributes)
        self._nodes.append(node)
        return output

    def _constant(self, layer: Dense, name: str, values: object) -> str:
        full_name = f"{layer.output}.{name}"
        self._constants[full_name] = numpy_helper.from_array(np.asarray(values), full_name)
        return full_name
