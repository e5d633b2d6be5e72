"""fp32 graph -> int8 graph without the user's pictures: the graph takes a scale from every row that it multiplies.

A row is one token of one picture, or in token mixing one channel of one picture, so that an answer does not depend on
what else is in the batch. ONNX Runtime's products take one scale an array: rows are multiplied as if theirs were one,
and their own scale comes after, in one more pass over the output. What is multiplied is what export/quantize.py
multiplies, and as exact on every processor. docs/decisions/0024 says what else was measured.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from export.dense import Dense
from export.int8.moments import MomentsInTurn
from export.int8.rounding import round_together
from export.int8.smoothing import smooth
from export.int8.writer import GraphWriter, Rounding, rewrite, to_nearest
from model.preprocess import Pixels

_MIDDLE = 128  # the byte of zero where a row has both signs
_GELU_ZERO = 32  # where it comes from a GELU, which is never less than:
_GELU_LEAST = -0.1701
_LEAST = 1e-20  # of a row's largest number: a row of zeros has a scale as well
_PIXEL_MEAN = 128


def write_int8_by_row(fp32: Path, path: Path, pixels: Pixels, patch_size: int) -> None:
    """Write the int8 form of the graph `fp32`, which has its dense layers whole. Raises ExportError.

    pixels: uint8 [n, H, W, C], any pictures at all: only the rounding of kernels depends on them.
    """
    smoothed = smooth(onnx.load(fp32))
    moments = MomentsInTurn(smoothed, pixels, patch_size, _PIXEL_MEAN)
    onnx.save(quantize_by_row(smoothed, lambda layer: round_together(layer.kernel, moments.of(layer.input))), path)


def quantize_by_row(graph: onnx.ModelProto, rounding: Rounding = to_nearest) -> onnx.ModelProto:
    """A copy of a smoothed graph with every dense layer but the head in bytes. Raises ExportError."""
    return rewrite(graph, _PIXEL_MEAN, _write_dense, rounding)


def _write_dense(writer: GraphWriter, layer: Dense) -> None:
    """A dense layer over rows [R, K] that become bytes by a scale each."""
    output = layer.output
    scale, zero = _row_scales(writer, layer)  # R 1
    zero_point = writer.shared(f"zero_point_{zero}", zero)
    flat = writer.append("Reshape", [scale, writer.shared("flat", np.array([-1]))], f"{output}.scales")  # R
    shape = writer.append("Shape", [flat], f"{output}.rows")
    zero_points = writer.append("Expand", [zero_point, shape], f"{output}.zero_points")  # R
    axis = [helper.make_attribute("axis", 0)]
    in_bytes = writer.append("QuantizeLinear", [layer.input, flat, zero_points], f"{output}.bytes", axis)  # R K
    one = writer.shared("one", np.float32(1))
    writer.write_product(layer, in_bytes, one, zero_point, f"{output}.product")  # R N
    scaled = writer.append("Mul", [f"{output}.product", scale], f"{output}.scaled")
    writer.append("Add", [scaled, writer.constant(layer, "bias", layer.bias)], output)


def _row_scales(writer: GraphWriter, layer: Dense) -> tuple[str, int]:
    """The name of the scales [R, 1], and the byte that stands for zero in every row.

    Behind a GELU the byte is low: nearly all of a row's range is above zero.
    """
    output, axes = layer.output, writer.shared("last_axis", np.array([1]))
    highest = writer.append("ReduceMax", [layer.input, axes], f"{output}.highest")  # R 1
    if writer.producer(layer.input).op_type == "Gelu":
        zero, steps = _GELU_ZERO, 255 - _GELU_ZERO
        limits = [writer.shared("gelu_least", np.float32(-_GELU_LEAST * steps / zero))]
    else:
        zero, steps = _MIDDLE, 255 - _MIDDLE
        lowest = writer.append("ReduceMin", [layer.input, axes], f"{output}.lowest")  # R 1
        limits = [writer.append("Neg", [lowest], f"{output}.depth"), writer.shared("least", np.float32(_LEAST))]
    reach = writer.append("Max", [highest, *limits], f"{output}.reach")  # R 1
    step = writer.shared(f"a_{steps}th", np.float32(1 / steps))
    return writer.append("Mul", [reach, step], f"{output}.row_scale"), zero
