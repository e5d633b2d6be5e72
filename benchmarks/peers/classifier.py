"""What every peer shares: picture files -> answers, by the service's own decode code and the same graph.

Knows nothing of HTTP or of any framework. Settings come by environment, because most frameworks start their workers
themselves.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.decoding.decoder import DecodeLimits, decode
from model.preprocess import Pixels, smallest_useful_side, to_patches
from model.spec import METADATA_KEY, ModelSpec

TOP_K = 5
ROUTE = "/classify"

_LIMITS = DecodeLimits(max_bytes=20 << 20, max_pixels=50_000_000)  # the service's defaults


@dataclass(frozen=True)
class Options:
    """What to serve and how. `threads`: CPU threads of one run; `pool`: calls side by side in one worker."""

    graph: Path
    port: int = 8000
    workers: int = 1
    threads: int = 1
    pool: int = 1
    max_batch_size: int = 1
    max_wait_ms: int = 0

    @classmethod
    def from_environment(cls) -> Self:
        """From PEER_GRAPH, PEER_PORT, ..., those that are set."""
        numbers = ("port", "workers", "threads", "pool", "max_batch_size", "max_wait_ms")
        given = {
            name: int(os.environ[f"PEER_{name.upper()}"]) for name in numbers if f"PEER_{name.upper()}" in os.environ
        }
        return cls(Path(os.environ["PEER_GRAPH"]), **given)


class Classifier:
    """One session and what its spec says."""

    def __init__(self, options: Options) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(options.graph), settings, providers=["CPUExecutionProvider"])
        self.spec = ModelSpec.model_validate_json(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        self._useful_side = smallest_useful_side(self.spec)
        self._model = {"name": self.spec.name, "version": self.spec.version, "precision": options.graph.stem}

    def patches(self, payload: bytes) -> Pixels:
        """A picture file -> uint8 [S, P*P*C]. Raises ServiceError."""
        return to_patches(decode(payload, self.spec.channels, self._useful_side, _LIMITS), self.spec)

    def answers(self, batch: Sequence[Pixels]) -> list[dict[str, Any]]:
        """n times uint8 [S, P*P*C] -> n answers as the service gives them, in one run."""
        (logits,) = self._session.run(["logits"], {"patches": np.stack(batch)})
        return [{"model": self._model, "predictions": self._predictions(row)} for row in logits]

    def answer(self, payload: bytes) -> dict[str, Any]:
        """Both, for one picture."""
        return self.answers([self.patches(payload)])[0]

    def _predictions(self, logits: NDArray[np.float32]) -> list[dict[str, Any]]:
        """As app/inference/classifier.py does it."""
        scaled = logits.astype(np.float64) / self.spec.temperature
        powers = np.exp(scaled - scaled.max())
        probabilities = powers / powers.sum()
        order = np.argsort(-probabilities, kind="stable")[:TOP_K]
        return [
            {"label": self.spec.labels[index], "index": int(index), "probability": float(probabilities[index])}
            for index in order
        ]
