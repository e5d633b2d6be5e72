"""A network of which there are weights alone: written node by node, and judged by the forward pass in NumPy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export import graph
from export.direct.mixer_graph import mixer_graph
from export.direct.onnx_file import append_metadata, write_model
from export.graph import Form
from model.evaluation.evaluate import Logits
from model.preprocess import Pixels
from model.spec import ModelSpec, Precision
from model.weights.config import MixerConfig
from model.weights.forward import forward
from model.weights.mixer_weights import MixerWeights

_BATCH_SIZE = 16


@dataclass(frozen=True)
class ArrayNetwork:
    """Weights with their spec, as export/bundle.py publishes them. Needs no torch."""

    weights: MixerWeights
    spec: ModelSpec
    images: Pixels | None = None
    judge: str = "NumPy"

    @property
    def config(self) -> MixerConfig:
        """Its sizes."""
        return self.weights.config

    def logits(self, pixels: Pixels) -> Logits:
        """Logits float32 [n, K] of uint8 [n, H, W, C]. Raises CheckpointError where the weights cannot be read."""
        starts = range(0, len(pixels), _BATCH_SIZE)
        return np.concatenate([forward(self.weights, pixels[start : start + _BATCH_SIZE]) for start in starts])

    def write_graph(self, path: Path, form: Form) -> None:
        """Write the network as ONNX. Raises ExportError; CheckpointError; OSError."""
        write_model(*mixer_graph(self.weights, form), path)

    def write_metadata(self, path: Path, spec: ModelSpec, precision: Precision) -> None:
        """Put the spec into a graph of this network. One that was written here is valid, and only grows."""
        if precision == "int8":
            graph.write_metadata(path, spec, precision)
        else:
            append_metadata(path, graph.metadata_of(spec, precision))
