"""The matrix products that a processor is judged by: the shipped graphs, and what is run of them."""

from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.engine.int8_probe import probe
from cli.bench.peaks import Number, Product, graph_file, products
from cli.bench.stopwatch import measure
from tests.processors import product_in_int16_pairs

GRAPHS: dict[Number, tuple[str, int, int, int]] = {
    "float32": ("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT),
    "int8": ("MatMulInteger", TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32),
}


def product_graph(number: Number) -> onnx.ModelProto:
    """One node: a [m, k] times b [k, n], everything from outside. Run this file to write what app/ ships."""
    operation, *types = GRAPHS[number]
    first, second, out = (
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in zip("abc", types, (["m", "k"], ["k", "n"], ["m", "n"]), strict=True)
    )
    graph = helper.make_graph([helper.make_node(operation, ["a", "b"], ["c"])], number, [first, second], [out])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, producer_name="mixer-serve", opset_imports=opset, ir_version=9)


@pytest.mark.parametrize("number", get_args(Number))
def test_the_shipped_graph_is_one_product_of_two_inputs(number: Number) -> None:
    shipped = onnx.load(graph_file(number))
    onnx.checker.check_model(shipped, full_check=True)
    assert shipped == product_graph(number)


def int8_product(first: NDArray[np.uint8], second: NDArray[np.int8]) -> NDArray[np.int32]:
    session = onnxruntime.InferenceSession(str(graph_file("int8")), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": first, "b": second})
    assert found.dtype == np.int32
    return found


def test_the_int8_graph_multiplies_unsigned_by_signed_bytes_into_32_bits() -> None:
    found = int8_product(np.full((2, 300), 255, dtype=np.uint8), np.full((300, 3), -64, dtype=np.int8))
    assert (found == 255 * -64 * 300).all(), "two such products fit 16 bits, on any processor"


def test_large_products_are_those_of_the_processors_kind() -> None:
    first, second = np.full((2, 300), 255, dtype=np.uint8), np.full((300, 3), -128, dtype=np.int8)
    exact = first.astype(np.int32) @ second
    expected = exact if probe() == "exact" else product_in_int16_pairs(first, second)
    assert (int8_product(first, second) == expected).all()


def test_every_size_runs_in_one_run_of_all_cpus_and_in_a_run_on_each() -> None:
    expected = [Product("float32", size, runs, threads) for runs, threads in ((1, 4), (4, 1)) for size in (8, 16)]
    candidates = products(4, int8=False, sizes=(8, 16))
    assert [candidate.key for candidate in candidates] == expected
    assert [candidate.threads for candidate in candidates] == [1, 1, 4, 4]


def test_one_cpu_has_one_way_to_run() -> None:
    assert [candidate.key for candidate in products(1, int8=True, sizes=(8,))] == [
        Product("float32", 8, 1, 1),
        Product("int8", 8, 1, 1),
    ]


def test_a_multiplication_and_an_addition_are_two_operations() -> None:
    candidate: Any
    for candidate in products(1, int8=True, sizes=(100,)):
        assert candidate.work() == pytest.approx(0.002)


def test_the_products_can_be_timed() -> None:
    measured = measure(products(2, int8=True, sizes=(16,)), seconds=1e-3, rounds=1)
    assert len(measured) == 4
    assert all(figure.rate > 0 for figure in measured.values())


if __name__ == "__main__":
    for each in get_args(Number):
        onnx.save(product_graph(each), graph_file(each))
