"""What every exported graph has: the names of its ends, its opset, and the spec inside. Knows no network."""

from pathlib import Path
from typing import Literal

import onnx

from model.errors import ExportError
from model.spec import (
    INT8_KERNELS_KEY,
    INT8_SCALES_KEY,
    METADATA_KEY,
    PAIRS_FIT_INT16,
    PRECISION_KEY,
    Int8Scales,
    ModelSpec,
    Precision,
)

Form = Literal["fp32", "fp16", "rows"]
"""How a network is written. "rows" is fp32 with undivided dense layers, the source of an int8 graph."""

OPSET = 20  # the first with Gelu as one node
INPUT, LOGITS, EMBEDDING = "patches", "logits", "embedding"
PRODUCER = "mixer-serve"
CENTRE = 128.0  # of the pixels in half precision


def metadata_of(spec: ModelSpec, precision: Precision, int8_scales: Int8Scales = "pictures") -> dict[str, str]:
    """What a graph's metadata says of it. int8_scales: where those of an int8 graph come from."""
    found = {METADATA_KEY: spec.model_dump_json(), PRECISION_KEY: precision}
    int8 = {INT8_KERNELS_KEY: PAIRS_FIT_INT16, INT8_SCALES_KEY: int8_scales}
    return {**found, **int8} if precision == "int8" else found


def write_metadata(path: Path, spec: ModelSpec, precision: Precision, int8_scales: Int8Scales = "pictures") -> None:
    """Put the spec into the graph's metadata, in place, and check the whole graph. Raises ExportError."""
    graph = onnx.load(path)
    kept = {entry.key: entry.value for entry in graph.metadata_props}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, kept | metadata_of(spec, precision, int8_scales))
    graph.producer_name = PRODUCER
    forget_traces(graph)
    expect_valid(graph)
    onnx.save(graph, path)


def expect_valid(graph: onnx.ModelProto) -> None:
    """Raises ExportError for a graph that is no valid ONNX."""
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported graph is not valid ONNX: {error}") from error


def forget_traces(graph: onnx.ModelProto) -> None:
    """Remove, in place, the exporter's stack traces from every node: they have this machine's paths."""
    for node in graph.graph.node:
        del node.metadata_props[:]
