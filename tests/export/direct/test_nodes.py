"""Nodes bear the names of their outputs; constants are in the graph's precision, and small ones stored once."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.direct.nodes import Nodes


def test_a_node_has_the_name_of_its_output():
    nodes = Nodes(np.float32)
    assert nodes.add("one", "other", "sum") == "sum"
    (node,) = nodes.nodes
    assert (node.name, node.op_type, list(node.input), list(node.output)) == ("sum", "Add", ["one", "other"], ["sum"])


def test_equal_shapes_are_one_constant():
    nodes = Nodes(np.float32)
    for output in ("first", "second"):
        nodes.reshape("value", output, -1, 3)
    nodes.reshape("value", "third", 1, 3)
    stored = {name: numpy_helper.to_array(tensor).tolist() for name, tensor in nodes.small.items()}
    assert list(stored.values()) == [[-1, 3], [1, 3]]
    assert [node.input[1] for node in nodes.nodes] == [*[next(iter(stored))] * 2, list(stored)[1]]


@pytest.mark.parametrize(("dtype", "data_type"), [(np.float32, TensorProto.FLOAT), (np.float16, TensorProto.FLOAT16)])
def test_constants_and_casts_are_in_the_graphs_precision(dtype: type, data_type: int):
    nodes = Nodes(dtype)
    nodes.constant("kernel", (3,), lambda: np.array([0.1, 0.2, 0.3], np.float32))
    (constant,) = nodes.constants
    assert (constant.data_type, constant.read().dtype, constant.num_bytes) == (data_type, dtype, 3 * dtype().itemsize)
    assert numpy_helper.to_array(nodes.small[nodes.scalar("centre", 128.0)]).dtype == dtype
    nodes.cast("patches", "numbers")
    assert helper.get_attribute_value(nodes.nodes[-1].attribute[0]) == data_type


@pytest.mark.parametrize(("is_out_in", "expected"), [(True, 1), (False, 0)])
def test_a_kernel_may_lie_either_way(is_out_in: bool, expected: int):
    nodes = Nodes(np.float32)
    nodes.gemm("rows", "kernel", "bias", "sums", kernel_is_out_in=is_out_in)
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in nodes.nodes[0].attribute}
    assert attributes == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": expected}
