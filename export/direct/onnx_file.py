"""An ONNX file written a constant at a time, so that no more than one of them is in memory. Knows no network.

A protobuf message is the sequence of its fields, each with its length before it: lengths follow from shapes, so the
constants need not be there before their turn comes. Two messages one after the other are one message with the fields
of both, so metadata can be appended to a file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper

from export.graph import OPSET, PRODUCER, expect_valid
from model.errors import ExportError

_IR_VERSION = 10
_MOST_BYTES = 2**31 - 1  # of a protobuf message
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # numbers of fields in onnx.proto
_BYTES = 2  # the wire type of a field that has a length


@dataclass(frozen=True)
class Constant:
    """A constant of a graph: its name, ONNX type and shape, and its numbers, read when they are written."""

    name: str
    data_type: int
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]

    @property
    def num_bytes(self) -> int:
        """How many bytes its numbers take."""
        return int(np.prod(self.shape)) * helper.tensor_dtype_to_np_dtype(self.data_type).itemsize


def write_model(graph: GraphProto, constants: Sequence[Constant], path: Path) -> None:
    """Write `graph`, which has its small constants inside, with `constants` as further initializers.

    Raises: ExportError for a graph that is not valid, or too large for one file; OSError.
    """
    expect_valid(_skeleton(graph, constants))
    inside = graph.SerializeToString()
    heads = [_head(constant) for constant in constants]
    num_bytes = len(inside) + sum(len(head) + c.num_bytes for head, c in zip(heads, constants, strict=True))
    if num_bytes > _MOST_BYTES:
        raise ExportError(f"{path.name} would have {num_bytes} bytes; expected at most {_MOST_BYTES}, as ONNX allows.")
    with path.open("wb") as file:
        file.write(_model().SerializeToString() + _field(_GRAPH, num_bytes) + inside)
        for head, constant in zip(heads, constants, strict=True):
            file.write(head)
            file.write(_bytes_of(constant))


def append_metadata(path: Path, entries: Mapping[str, str]) -> None:
    """Give a file, which has no metadata yet, these entries."""
    model = ModelProto()
    helper.set_model_props(model, dict(entries))
    with path.open("ab") as file:
        file.write(model.SerializeToString())


def _model() -> ModelProto:
    return ModelProto(ir_version=_IR_VERSION, producer_name=PRODUCER, opset_import=[helper.make_opsetid("", OPSET)])


def _skeleton(graph: GraphProto, constants: Sequence[Constant]) -> ModelProto:
    """The model with the types and shapes of its constants in place of their numbers."""
    model = _model()
    model.graph.CopyFrom(graph)
    model.graph.input.extend(helper.make_tensor_value_info(c.name, c.data_type, c.shape) for c in constants)
    return model


def _head(constant: Constant) -> bytes:
    """All of an initializer that stands before its numbers."""
    tensor = TensorProto(name=constant.name, data_type=constant.data_type, dims=constant.shape).SerializeToString()
    inside: bytes = tensor + _field(_RAW_DATA, constant.num_bytes)
    return _field(_INITIALIZER, len(inside) + constant.num_bytes) + inside


def _bytes_of(constant: Constant) -> memoryview:
    numbers = np.ascontiguousarray(constant.read(), helper.tensor_dtype_to_np_dtype(constant.data_type))
    if numbers.shape != constant.shape:
        raise ExportError(f"{constant.name} is {numbers.shape}; expected {constant.shape}. This is a bug.")
    return numbers.data


def _field(number: int, length: int) -> bytes:
    """The start of a field: its number and how many bytes follow."""
    return _varint(number << 3 | _BYTES) + _varint(length)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth set."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
