"""A network of which there are weights alone: written node by node, and judged by the forward pass in NumPy."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from export import graph
from export.direct.mixer_graph import mixer_graph
from export.direct.onnx_file import append_metadata, write_model
from export.graph import Form
from model.data.machine import decoding_threads
from model.evaluation.evaluate import Logits
from model.preprocess import Pixels
from model.spec import Int8Scales, ModelSpec, Precision
from model.weights.config import MixerConfig
from model.weights.forward import forward
from model.weights.mixer_weights import MixerWeights

_MOST_AT_ONCE = 8  # pictures


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
        count = min(_MOST_AT_ONCE, math.ceil(len(pixels) / decoding_threads()))
        parts = [pixels[start : start + count] for start in range(0, len(pixels), count)]
        # threads of OpenBLAS wait for each other by spinning, several times in every product: on a busy machine five
        # times the processor time of threads that have pictures of their own
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(decoding_threads()) as threads:
            return np.concatenate(list(threads.map(lambda part: forward(self.weights, part), parts)))

    def write_graph(self, path: Path, form: Form) -> None:
        """Write the network as ONNX. Raises ExportError; CheckpointError; OSError."""
        write_model(*mixer_graph(self.weights, form), path)

    def write_metadata(self, path: Path, spec: ModelSpec, precision: Precision, int8_scales: Int8Scales) -> None:
        """Put the spec into a graph of this network. One that was written here is valid, and only grows."""
        if precision == "int8":
            graph.write_metadata(path, spec, precision, int8_scales)
        else:
            append_metadata(path, graph.metadata_of(spec, precision))
