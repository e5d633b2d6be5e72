"""A file that is written a constant at a time is the one that onnx would write of the same model."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper, numpy_helper

from export.direct.onnx_file import Constant, append_metadata, write_model
from model.errors import ExportError

KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
BIAS = np.array([1.0, 2.0, 3.0], np.float32)


def graph_of(op_type: str = "Gemm") -> GraphProto:
    node = helper.make_node(op_type, ["rows", "kernel", "bias"], ["sums"])
    ends = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", dim]) for name, dim in (("rows", 4), ("sums", 3))
    )
    rows, sums = ends
    return helper.make_graph([node], "toy", [rows], [sums], [numpy_helper.from_array(BIAS, "bias")])


def constant(values: NDArray[Any], name: str = "kernel", read: Callable[[], NDArray[Any]] | None = None) -> Constant:
    return Constant(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape, read or (lambda: values))


def test_onnx_reads_it_and_its_constants_are_whole(tmp_path: Path):
    write_model(graph_of(), [constant(KERNEL)], tmp_path / "toy.onnx")
    model = onnx.load(tmp_path / "toy.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.ir_version, model.opset_import[0].version) == ("mixer-serve", 10, 20)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert stored.keys() == {"kernel", "bias"}
    np.testing.assert_array_equal(stored["kernel"], KERNEL)
    assert [value.name for value in model.graph.input] == ["rows"], "the constants are no inputs"


def test_onnx_runtime_runs_it(tmp_path: Path):
    write_model(graph_of(), [constant(KERNEL)], tmp_path / "toy.onnx")
    rows = np.eye(4, dtype=np.float32)
    (sums,) = onnxruntime.InferenceSession(tmp_path / "toy.onnx").run(None, {"rows": rows})
    np.testing.assert_allclose(sums, KERNEL + BIAS)


@pytest.mark.parametrize("size", [1, 15, 16, 31, 32, 33, 5000, 70_000])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_lengths_of_every_size_are_written_as_protobuf_writes_them(tmp_path: Path, size: int, dtype: type):
    values = (np.arange(size) % 2048).astype(dtype)
    write_model(GraphProto(name="constants"), [constant(values, "a"), constant(values, "b")], tmp_path / "toy.onnx")
    stored = onnx.load(tmp_path / "toy.onnx").graph.initializer
    assert [tensor.name for tensor in stored] == ["a", "b"]
    for tensor in stored:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), values)


def test_values_are_stored_row_by_row_wherever_they_lie(tmp_path: Path):
    write_model(graph_of(), [constant(KERNEL, read=lambda: np.asfortranarray(KERNEL))], tmp_path / "toy.onnx")
    (kernel,) = (t for t in onnx.load(tmp_path / "toy.onnx").graph.initializer if t.name == "kernel")
    np.testing.assert_array_equal(numpy_helper.to_array(kernel), KERNEL)


def test_metadata_can_follow(tmp_path: Path):
    write_model(graph_of(), [constant(KERNEL)], tmp_path / "toy.onnx")
    before = onnx.load(tmp_path / "toy.onnx")
    append_metadata(tmp_path / "toy.onnx", {"mixer.spec": "{}", "mixer.precision": "fp32"})
    after = onnx.load(tmp_path / "toy.onnx")
    assert {entry.key: entry.value for entry in after.metadata_props} == {"mixer.spec": "{}", "mixer.precision": "fp32"}
    assert onnxruntime.InferenceSession(tmp_path / "toy.onnx").get_modelmeta().custom_metadata_map["mixer.spec"] == "{}"
    del after.metadata_props[:]
    assert after == before


def test_a_graph_that_is_not_valid_is_not_written(tmp_path: Path):
    with pytest.raises(ExportError, match="not valid ONNX"):
        write_model(graph_of("NoSuchOperator"), [constant(KERNEL)], tmp_path / "toy.onnx")
    with pytest.raises(ExportError, match="not valid ONNX"):
        write_model(graph_of(), [constant(KERNEL.T.copy())], tmp_path / "toy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_one_file_cannot_hold_is_told_before_anything_is_read(tmp_path: Path):
    huge = Constant("huge", TensorProto.FLOAT, (2**29, 1), lambda: pytest.fail("it was read"))
    with pytest.raises(ExportError, match=r"toy.onnx would have 2147483\d+ bytes; expected at most 2147483647"):
        write_model(GraphProto(name="constants"), [huge], tmp_path / "toy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_constant_that_is_not_shaped_as_announced_is_a_bug(tmp_path: Path):
    with pytest.raises(ExportError, match=r"kernel is \(3, 4\); expected \(4, 3\). This is a bug."):
        write_model(graph_of(), [constant(KERNEL, read=lambda: KERNEL.T)], tmp_path / "toy.onnx")


def test_one_constant_is_in_memory_at_a_time(tmp_path: Path):
    size = 1 << 20
    ones = np.ones(size, np.float32)
    constants = [constant(ones, f"constant {index}", lambda: np.ones(size, np.float32)) for index in range(5)]
    tracemalloc.start()
    try:
        write_model(GraphProto(name="constants"), constants, tmp_path / "toy.onnx")
        assert tracemalloc.get_traced_memory()[1] < 2 * 4 * size
    finally:
        tracemalloc.stop()
    assert (tmp_path / "toy.onnx").stat().st_size > 5 * 4 * size
