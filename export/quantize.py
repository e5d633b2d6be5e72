"""fp32 graph -> int8 graph: its dense layers multiply bytes, by scales that are part of the graph. Measures nothing.

The fp32 graph has its dense layers whole, as export.to_onnx writes them in the form "rows".

Activations are unsigned bytes with one scale and zero point for each array, kernels signed bytes with one scale for
each column: what VNNI multiplies. MatMulIntegerToFloat does product, scales and bias in one pass over the output. Layer
norm, GELU, the skip connections and the head stay in float. docs/decisions/0007 says what else was measured, and
export/int8/by_row.py has the way without pictures.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from export.calibration import Scale, calibrate
from export.dense import Dense
from export.int8.writer import GraphWriter, rewrite
from model.preprocess import Pixels


def write_int8(fp32: Path, path: Path, pixels: Pixels, patch_size: int) -> None:
    """Write the int8 form of the graph `fp32`, with scales taken from uint8 [n, H, W, C]. Raises ExportError."""
    onnx.save(quantize(onnx.load(fp32), calibrate(fp32, pixels, patch_size), round(float(pixels.mean()))), path)


def quantize(graph: onnx.ModelProto, scales: Mapping[str, Scale], pixel_mean: int) -> onnx.ModelProto:
    """A copy of the graph with every dense layer but the head in bytes.

    scales: by the name of the layer's input. pixel_mean: subtracted by the stem's bias, as patches enter the stem as
    unsigned bytes; the kernel's rounding then matters less.
    Raises: ExportError.
    """
    return rewrite(graph, pixel_mean, lambda writer, layer: _write_dense(writer, layer, scales[layer.input]))


def _write_dense(writer: GraphWriter, layer: Dense, scale: Scale) -> None:
    """A dense layer in bytes; reshapes and transposes before it move bytes."""
    origin, moves = writer.origin(layer.input)
    row_scale = writer.constant(layer, "scale", np.float32(scale.scale))
    zero_point = writer.constant(layer, "zero_point", scale.zero_point)
    in_bytes = writer.append("QuantizeLinear", [origin, row_scale, zero_point], f"{layer.output}.bytes")
    rows = writer.moved(layer, moves, in_bytes)
    writer.write_product(layer, rows, row_scale, zero_point, layer.output, writer.constant(layer, "bias", layer.bias))
