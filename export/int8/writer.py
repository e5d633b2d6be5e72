"""Rewrites an fp32 graph so that its dense layers multiply bytes; how activations become bytes is given to it.

The fp32 graph has its dense layers whole, as export.to_onnx writes them in the form "rows". Layer norm, GELU, the skip
connections and the head stay in float. Patches enter the stem as the bytes they are.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper, numpy_helper

from export.dense import Dense, Kernel, before_head
from export.int8.kernels import pairs_fit_int16, quantize_kernel
from model.errors import ExportError

_CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators
_MOVES = ("Reshape", "Transpose")  # may be done to bytes instead: a quarter of the size

Rounding = Callable[[Dense], tuple[NDArray[np.int8], Kernel]]
"""A layer's kernel in signed bytes [K, N], and a scale for each column [N]."""


def to_nearest(layer: Dense) -> tuple[NDArray[np.int8], Kernel]:
    """Every weight by itself."""
    return quantize_kernel(layer.kernel)


def rewrite(
    graph: onnx.ModelProto,
    pixel_mean: int,
    write_dense: Callable[["GraphWriter", Dense], None],
    rounding: Rounding = to_nearest,
) -> onnx.ModelProto:
    """A copy of the graph with every dense layer but the head in bytes.

    pixel_mean: subtracted by the stem's bias, as patches enter the stem as unsigned bytes; the kernel's rounding then
    matters less. write_dense: writes any other dense layer.
    Raises: ExportError.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(graph)
    writer = GraphWriter(rewritten.graph, rounding)
    dense = {layer.output: layer for layer in before_head(graph.graph)}
    for node in graph.graph.node:
        layer = dense.get(node.output[0])
        if layer is None:
            writer.write(node)
        elif writer.takes_pixels(layer):
            writer.write_stem(layer, pixel_mean)
        else:
            write_dense(writer, layer)
    writer.finish()
    rewritten.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    return rewritten


class GraphWriter:
    """Collects the nodes and constants of the new graph."""

    def __init__(self, graph: onnx.GraphProto, rounding: Rounding) -> None:
        self._graph = graph
        self._rounding = rounding
        self._input = graph.input[0].name
        self._pixels = {
            node.output[0] for node in graph.node if node.op_type == "Cast" and node.input[0] == self._input
        }
        self._producers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output}
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

    def write_stem(self, layer: Dense, pixel_mean: int) -> None:
        """The layer that takes the pixels, which are bytes already."""
        _, moves = self.origin(layer.input)
        rows = self.moved(layer, moves, self._input)
        scale, zero_point = self.constant(layer, "scale", np.float32(1)), self.constant(layer, "zero_point", pixel_mean)
        bias = layer.bias + pixel_mean * layer.kernel.sum(axis=0)
        self.write_product(layer, rows, scale, zero_point, layer.output, self.constant(layer, "bias", bias))

    def write_product(
        self, layer: Dense, rows: str, scale: str, zero_point: str, output: str, bias: str | None = None
    ) -> None:
        """output [rows, N] = bytes [rows, K] less zero_point, times scale and the layer's kernel, and the bias.

        One pass over the output. Raises ExportError.
        """
        kernel, kernel_scale = self._rounding(layer)
        if not pairs_fit_int16(kernel):
            raise ExportError(f"The int8 kernel of {layer.output} has pairs that leave 16 bits. This is a bug.")
        names = [self.constant(layer, "kernel", kernel), scale, self.constant(layer, "kernel_scale", kernel_scale)]
        no_kernel_zero_points = [""] if bias is not None else []
        inputs = [rows, *names, zero_point, *no_kernel_zero_points, *([bias] if bias is not None else [])]
        self._nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [output], domain=_CONTRIB))

    def append(self, op_type: str, inputs: list[str], output: str, attributes: Iterable[AttributeProto] = ()) -> str:
        """A node of ONNX with one output, whose name it returns."""
        node = helper.make_node(op_type, inputs, [output])
        node.attribute.extend(attributes)
        self._nodes.append(node)
        return output

    def constant(self, layer: Dense, name: str, values: object) -> str:
        """Numbers that belong to one layer; a plain int is an unsigned byte. Returns their name in the graph."""
        return self.shared(f"{layer.output}.{name}", values)

    def shared(self, name: str, values: object) -> str:
        """Numbers that several layers may use, stored once. Returns `name`."""
        array = np.uint8(values) if isinstance(values, int) else np.asarray(values)
        self._constants[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def producer(self, value: str) -> NodeProto:
        """The node of the fp32 graph that gives a value."""
        return self._producers[value]

    def takes_pixels(self, layer: Dense) -> bool:
        """Whether it is the stem."""
        return self.origin(layer.input)[0] in self._pixels

    def origin(self, value: str) -> tuple[str, list[NodeProto]]:
        """The value before its reshapes and transposes, and these nodes in order."""
        moves: list[NodeProto] = []
        while (producer := self._producers[value]).op_type in _MOVES:
            moves.insert(0, producer)
            value = producer.input[0]
        return value, moves

    def moved(self, layer: Dense, moves: Sequence[NodeProto], value: str) -> str:
        """The same reshapes and transposes of another value."""
        for index, move in enumerate(moves):
            value = self.append(move.op_type, [value, *move.input[1:]], f"{layer.output}.move{index}", move.attribute)
        return value

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
