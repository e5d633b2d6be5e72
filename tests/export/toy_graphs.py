"""Graphs of dense layers alone, written by hand, for what reads and quantises them; and what a file has in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

Layer = tuple[ArrayLike, ArrayLike]
"""A kernel [K, N] and a bias [N]."""


def dense_graph(layers: Sequence[Layer], num_patches: int = 1, attributes: Mapping[str, Any] | None = None) -> Any:
    """patches uint8 [N, S, D] -> rows [N*S, D] -> every layer in turn -> logits [N*S, K], with no GELU between."""
    kernels = [np.asarray(kernel, dtype=np.float32) for kernel, _ in layers]
    dim = kernels[0].shape[1 if (attributes or {}).get("transB") else 0]
    constants = {"shape": np.array([-1, dim], dtype=np.int64)}
    nodes = [
        helper.make_node("Cast", ["patches"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["rows"]),
    ]
    value = "rows"
    for index, (_, bias) in enumerate(layers):
        output = "logits" if index == len(layers) - 1 else f"dense_{index}"
        constants |= {f"kernel_{index}": kernels[index], f"bias_{index}": np.asarray(bias, dtype=np.float32)}
        inputs = [value, f"kernel_{index}", f"bias_{index}"]
        nodes.append(helper.make_node("Gemm", inputs, [output], name=f"gemm_{index}", **(attributes or {})))
        value = output
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("patches", TensorProto.UINT8, ["batch", num_patches, dim])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def op_types(path: Path) -> Counter[str]:
    """How many nodes of each type a file has."""
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """What the graph has stored, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
