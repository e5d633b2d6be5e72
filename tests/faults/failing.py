"""A classifier of colours that goes wrong on some of them: real graphs, real failures of ONNX Runtime.

The faults are computed from the pixels: nothing is wrong with the graph until a picture of such a colour comes, and all
others get the answers of color_bundle.py.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from model.spec import ModelSpec
from tests.app.color_bundle import color_graph, color_spec

RAISES, NOT_A_NUMBER, INFINITE, HUNGRY, ENDLESS = (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 6), (5, 6, 7)
_COLORS = {"raises": RAISES, "nan": NOT_A_NUMBER, "infinite": INFINITE, "hungry": HUNGRY, "endless": ENDLESS}
_SWITCH_FILE = "switch.bin"
_SWITCH_COUNT = 1024  # numbers; ONNX Runtime may copy smaller ones
_MORE_FLOATS_THAN_ADDRESSES = 1 << 50  # no system promises so many, however much it promises
_MORE_TURNS_THAN_TIME = 1 << 60


def write_failing_bundle(folder: Path, spec: ModelSpec | None = None) -> Path:
    """A bundle folder with such a graph, and a file beside it that `break_for_all` changes under a running service."""
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load_from_string(color_graph(spec or color_spec()))
    (folder / _SWITCH_FILE).write_bytes(_switch(0).tobytes())
    _add_faults(model.graph)
    graph = folder / "fp32.onnx"
    graph.write_bytes(model.SerializeToString())
    onnx.checker.check_model(graph)
    return folder


def break_for_all(bundle: Path) -> None:
    """From now on every run fails: ONNX Runtime reads these weights where they lie, in the mapped file."""
    with (bundle / _SWITCH_FILE).open("r+b") as file:
        file.write(_switch(7).tobytes())


def mend_for_all(bundle: Path) -> None:
    """Take that back."""
    with (bundle / _SWITCH_FILE).open("r+b") as file:
        file.write(_switch(0).tobytes())


def _switch(index: int) -> NDArray[np.int64]:
    return np.full(_SWITCH_COUNT, index, dtype=np.int64)


def _add_faults(graph: onnx.GraphProto) -> None:
    """What was "logits" has a number added for each fault: 0 for all who do not set it off."""
    for node in graph.node:
        node.output[:] = ["plain" if output == "logits" else output for output in node.output]
    constants = {
        "colours": np.array(list(_COLORS.values()), dtype=np.float32),
        "zero": np.float32(0),
        "one": np.float32(1),
        "yes": np.bool_(True),
        "close": np.float32(0.1),
        "only": np.zeros(1, dtype=np.float32),
        "first": np.array([0]),
        "third": np.array([3]),
        "axis": np.array([1]),
        "least": np.array([1]),
        "floats": np.int64(_MORE_FLOATS_THAN_ADDRESSES),
        "turns": np.int64(_MORE_TURNS_THAN_TIME),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.initializer.append(_switch_tensor())
    graph.node.extend([*_which_colors(), *_raising(), *_not_finite(), *_hungry(), *_endless()])
    terms = [f"{name} term" for name in (*_COLORS, "switched")]
    graph.node.append(helper.make_node("Sum", ["plain", *terms], ["logits"]))


def _switch_tensor() -> TensorProto:
    tensor = numpy_helper.from_array(_switch(0), "switch")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": _SWITCH_FILE, "offset": "0", "length": str(_switch(0).nbytes)}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _which_colors() -> list[NodeProto]:
    """For each fault, whether a picture [batch, 1] sets it off: 0 or 1. The embedding begins with its mean colour."""
    return [
        helper.make_node("Slice", ["embedding", "first", "third", "axis"], ["colour"]),
        helper.make_node("Unsqueeze", ["colour", "axis"], ["one colour"]),
        helper.make_node("Sub", ["one colour", "colours"], ["differences"]),
        helper.make_node("Abs", ["differences"], ["distances"]),
        helper.make_node("ReduceMax", ["distances"], ["distance"], axes=[2], keepdims=0),
        helper.make_node("Less", ["distance", "close"], ["matches"]),
        helper.make_node("Cast", ["matches"], ["flags"], to=TensorProto.INT64),
        helper.make_node("Split", ["flags"], list(_COLORS), axis=1),
    ]


def _raising() -> list[NodeProto]:
    """An index beyond the end, for the run of any batch with such a picture; and for all by the switch."""
    return [
        helper.make_node("Gather", ["only", "raises"], ["raises term"]),
        helper.make_node("Gather", ["switch", "raises"], ["switched"]),
        helper.make_node("Gather", ["only", "switched"], ["switched term"]),
    ]


def _not_finite() -> list[NodeProto]:
    """0/0 and 1/0, in its own row only."""
    return [
        helper.make_node("Cast", ["nan"], ["nan flag"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "nan flag"], ["nan divisor"]),
        helper.make_node("Div", ["zero", "nan divisor"], ["nan term"]),
        helper.make_node("Cast", ["infinite"], ["infinite flag"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "infinite flag"], ["infinite divisor"]),
        helper.make_node("Div", ["infinite flag", "infinite divisor"], ["infinite term"]),
    ]


def _hungry() -> list[NodeProto]:
    """An array of as many numbers as the batch has such pictures, times more than there can be."""
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0])
    return [
        helper.make_node("ReduceMax", ["hungry"], ["any hungry"], keepdims=0),
        helper.make_node("Mul", ["any hungry", "floats"], ["more floats"]),
        helper.make_node("Add", ["more floats", "least"], ["count"]),
        helper.make_node("ConstantOfShape", ["count"], ["array"], value=nothing),
        helper.make_node("ReduceMax", ["array"], ["hungry term"], keepdims=0),
    ]


def _endless() -> list[NodeProto]:
    """A loop of no turns, or of more than anybody waits for."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go on"], ["still"]), helper.make_node("Identity", ["before"], ["after"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, []),
        ],
    )
    return [
        helper.make_node("ReduceMax", ["endless"], ["any endless"], keepdims=0),
        helper.make_node("Mul", ["any endless", "turns"], ["times"]),
        helper.make_node("Loop", ["times", "yes", "zero"], ["endless term"], body=body),
    ]
