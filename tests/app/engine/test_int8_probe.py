"""What the probe finds on this processor, on others, and what its graph is."""

from typing import get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.engine.int8_probe import PROBE, SIZE, Products, judge, kernel, probe
from app.system.cpu_limits import int8_instructions
from tests.processors import product_in_int16_pairs

BYTES = np.full((1, SIZE), 255, np.uint8)


def probe_graph() -> onnx.ModelProto:
    """One product with a constant kernel. Run this file to write what app/ ships."""
    constants = {"kernel": kernel(), "scale": np.float32(1), "kernel_scale": np.ones(32, np.float32)}
    node = helper.make_node(
        "MatMulIntegerToFloat", ["bytes", "kernel", "scale", "kernel_scale"], ["products"], domain="com.microsoft"
    )
    graph = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("bytes", TensorProto.UINT8, ["rows", SIZE])],
        [helper.make_tensor_value_info("products", TensorProto.FLOAT, ["rows", 32])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, producer_name="mixer-serve", opset_imports=opsets, ir_version=9)


def test_the_shipped_graph_is_the_product_that_the_module_describes() -> None:
    assert onnx.load(PROBE) == probe_graph()


def test_this_processors_kernels_are_exact_for_pairs_at_least() -> None:
    assert probe() in ("exact", "exact for pairs")


def test_the_probe_is_as_good_as_the_instructions_say() -> None:
    native = int8_instructions() not in (None, "avx2")
    assert probe() == ("exact" if native else "exact for pairs")


def test_exact_products_are_called_exact() -> None:
    assert judge([(BYTES.astype(np.int32) @ kernel()).astype(np.float32)] * 2) == "exact"


def test_products_that_saturate_in_16_bits_are_exact_for_pairs() -> None:
    assert judge([product_in_int16_pairs(BYTES, kernel()).astype(np.float32)]) == "exact for pairs"


@pytest.mark.parametrize("distance", [2, 4, 32])
def test_products_that_pair_other_rows_are_wrong(distance: int) -> None:
    order = np.arange(SIZE).reshape(-1, 2, distance).transpose(0, 2, 1).ravel()  # row k beside row k + distance
    paired = product_in_int16_pairs(BYTES[:, order], kernel()[order])
    assert judge([paired.astype(np.float32)]) == "wrong"


def test_one_shape_of_product_that_is_wrong_counts() -> None:
    exact: NDArray[np.float32] = (BYTES.astype(np.int32) @ kernel()).astype(np.float32)
    assert judge([exact, product_in_int16_pairs(BYTES, kernel()).astype(np.float32)]) == "exact for pairs"
    assert judge([exact, exact + 1]) == "wrong"
    assert set(get_args(Products)) == {"exact", "exact for pairs", "wrong"}


if __name__ == "__main__":
    onnx.save(probe_graph(), PROBE)
