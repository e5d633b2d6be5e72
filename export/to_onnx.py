"""A Mixer as an ONNX graph: uint8 patches in, logits and embedding out, its spec inside. Knows nothing of parity."""

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from model.errors import ExportError
from model.mixer import MlpMixer
from model.spec import METADATA_KEY, PRECISION_KEY, ModelSpec, Precision

OPSET = 20  # the first with Gelu as one node
INPUT, LOGITS, EMBEDDING = "patches", "logits", "embedding"
_TRACED_BATCH = 2  # a batch of 1 can freeze the dimension


class PatchGraph(nn.Module):
    """What is exported: the model with its normalisation folded into the stem, so that raw pixels enter a MatMul."""

    def __init__(self, model: MlpMixer) -> None:
        super().__init__()
        self.stem = model.folded_stem()
        self.model = model

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Map patches uint8 [N, S, P*P*C_in] to logits [N, K] and embedding [N, C]."""
        embedding = self.model.mix(self.stem(patches.float()))  # N C
        return self.model.classify(embedding), embedding


def write_graph(model: MlpMixer, path: Path) -> None:
    """Write `model` as fp32 ONNX with a dynamic batch, in one file. Raises ExportError."""
    config = model.config
    example = torch.zeros(_TRACED_BATCH, config.num_patches, config.patch_dim, dtype=torch.uint8)
    graph = PatchGraph(model).eval()
    for name in ("onnxscript", "torch.onnx"):  # they report on the exporter itself
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):  # of the exporter about itself
            torch.onnx.export(
                graph,
                (example,),
                path,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[LOGITS, EMBEDDING],
                dynamic_shapes={"patches": {0: torch.export.Dim("batch", min=1)}},
                external_data=False,
            )
    except Exception as error:
        raise ExportError(f"The network cannot be exported: {' '.join(str(error).split())[:300]}") from error


def write_metadata(path: Path, spec: ModelSpec, precision: Precision) -> None:
    """Put the spec into the graph's metadata, in place, and check the whole graph. Raises ExportError."""
    graph = onnx.load(path)
    kept = {entry.key: entry.value for entry in graph.metadata_props}
    kept |= {METADATA_KEY: spec.model_dump_json(), PRECISION_KEY: precision}
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, kept)
    graph.producer_name = "mixer-serve"
    try:
        onnx.checker.check_model(graph, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"The exported graph is not valid ONNX: {error}") from error
    onnx.save(graph, path)
