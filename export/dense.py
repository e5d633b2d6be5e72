"""The dense layers of an exported graph: a Gemm each, with a constant kernel and its bias. Changes nothing."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from model.errors import ExportError

Kernel = NDArray[np.float32]


@dataclass(frozen=True)
class Dense:
    """output [rows, N] = input [rows, K] @ kernel [K, N] + bias [N]."""

    input: str
    output: str
    kernel: Kernel
    bias: Kernel


def find_dense(graph: onnx.GraphProto) -> list[Dense]:
    """Every dense layer in the graph's order: stem, two for each MLP, one or two of the head.

    Raises: ExportError where one is not as export.to_onnx writes it.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    return [_dense(node, constants) for node in graph.node if node.op_type == "Gemm"]


def before_head(graph: onnx.GraphProto) -> list[Dense]:
    """The same without those of the head: the one that gives the logits, and the one that takes the embedding."""
    ends = {value.name for value in graph.output}
    return [layer for layer in find_dense(graph) if ends.isdisjoint((layer.input, layer.output))]


def _dense(gemm: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Dense:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in gemm.attribute}
    plain = attributes.get("alpha", 1) == attributes.get("beta", 1) == 1 and not attributes.get("transA", 0)
    if not plain or not set(gemm.input[1:]) <= constants.keys():
        raise ExportError(f"{gemm.name} is not a dense layer with a constant kernel and bias. This is a bug.")
    kernel, *biases = (numpy_helper.to_array(constants[name]) for name in gemm.input[1:])
    kernel = kernel.T if attributes.get("transB", 0) else kernel
    bias = biases[0] if biases else np.zeros(kernel.shape[1], np.float32)  # the exporter omits a bias of zeros
    return Dense(gemm.input[0], gemm.output[0], kernel, bias)
