"""A classifier whose answers are plain to see, made without torch: the logits are the mean of each colour channel.

In colour the classes are red, green and blue; in grey, dark and light. A logit is the mean scaled to 0..10.
"""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from model.spec import INT8_KERNELS_KEY, METADATA_KEY, PAIRS_FIT_INT16, PRECISION_KEY, Canary, Fit, ModelSpec, Source

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
IMAGE_SIZE, PATCH_SIZE = 8, 4


def image(color: Any, *, size: tuple[int, int] = (8, 8), mode: str = "RGB", kind: str = "PNG", **options: Any) -> bytes:
    """A file of one plain colour."""
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, kind, **options)
    return file.getvalue()


def color_spec(channels: int = 3, **changes: Any) -> ModelSpec:
    """What the graph of `color_graph` expects and means. The canary is red, or white."""
    labels = ("red", "green", "blue") if channels == 3 else ("dark", "light")
    canary = image(RED if channels == 3 else (255, 255, 255))
    fields: dict[str, Any] = {
        "name": "colours",
        "version": "7",
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "channels": channels,
        "num_classes": len(labels),
        "labels": labels,
        "fit": Fit(mode="stretch"),
        "canary": Canary(
            picture=base64.b64encode(canary).decode(),
            logits=(10.0, 0.0, 0.0) if channels == 3 else (0.0, 10.0),
            atol=1e-3,
        ),
        "source": Source(origin="made for a test"),
    }
    return ModelSpec(**{**fields, **changes})


def color_graph(
    spec: ModelSpec,
    *,
    metadata: dict[str, str] | None = None,
    input_name: str = "patches",
    input_type: int = TensorProto.UINT8,
    logits_name: str = "logits",
    frozen_batch: int | None = None,
) -> bytes:
    """An ONNX file: input uint8 [batch, S, P*P*C], outputs logits [batch, K] and embedding [batch, P*P*C].

    The keywords break one thing each; `frozen_batch` makes a graph that runs batches of that size only.
    """
    weight, bias = _head(spec)
    nodes = [
        helper.make_node("Cast", [input_name], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["embedding"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weight"], ["products"]),
        helper.make_node("Add", ["products", "bias"], [logits_name if frozen_batch is None else "sums"]),
    ]
    constants = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")]
    if frozen_batch is not None:
        nodes.append(helper.make_node("Reshape", ["sums", "shape"], [logits_name]))
        constants.append(numpy_helper.from_array(np.array([frozen_batch, spec.num_classes], dtype=np.int64), "shape"))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info(input_name, input_type, ["batch", spec.num_patches, spec.patch_bytes])],
        [
            helper.make_tensor_value_info(logits_name, TensorProto.FLOAT, ["batch", spec.num_classes]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", spec.patch_bytes]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata is None:
        metadata = {METADATA_KEY: spec.model_dump_json(), PRECISION_KEY: "fp32"}
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_bundle(folder: Path, spec: ModelSpec, precisions: tuple[str, ...] = ("fp32",), **breakage: Any) -> Path:
    """A bundle folder whose graphs all compute the same."""
    folder.mkdir(parents=True, exist_ok=True)
    for precision in precisions:
        metadata = {METADATA_KEY: spec.model_dump_json(), PRECISION_KEY: precision}
        if precision == "int8":
            metadata[INT8_KERNELS_KEY] = PAIRS_FIT_INT16
        (folder / f"{precision}.onnx").write_bytes(color_graph(spec, **{"metadata": metadata, **breakage}))
    return folder


def _head(spec: ModelSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    pixels_per_patch = spec.patch_size**2
    scale = 10 / 255 / pixels_per_patch
    if spec.channels == 3:
        weight = np.tile(np.eye(3), (pixels_per_patch, 1)) * scale
        return weight.astype(np.float32), np.zeros(3, dtype=np.float32)
    weight = np.tile([[-1.0, 1.0]], (pixels_per_patch, 1)) * scale
    return weight.astype(np.float32), np.array([10, 0], dtype=np.float32)
