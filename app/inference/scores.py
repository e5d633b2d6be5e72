"""What the network says of batches of patches, as probabilities. Knows nothing of labels."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.engine.engine import Engine
from app.engine.runners import Patches
from app.system.threads import Threads
from app.telemetry.metrics import Metrics
from app.telemetry.model_metrics import ModelMetrics


class Scores(NamedTuple):
    """What the network says of one picture, of K classes.

    logits: float32 [K]. probabilities: float64 [K], sum 1. order: the classes' indices, most probable first.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    order: NDArray[np.intp]


class Instances:
    """Runs an engine in threads, as many as it has instances."""

    def __init__(self, engine: Engine, count: int, metrics: Metrics | ModelMetrics) -> None:
        self.threads = Threads(count, "instance")
        self._engine = engine
        self._metrics = metrics

    async def run(self, batch: list[Patches]) -> list[Scores]:
        """What the network says of each, in order."""
        scores = await self.threads.call(self._scored, batch)
        self._metrics.padded(self._engine.padding(len(batch)))
        return scores

    def _scored(self, batch: list[Patches]) -> list[Scores]:
        logits = self._engine.run(batch)
        probabilities = softmax(logits, self._engine.spec.temperature)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [Scores(*rows) for rows in zip(logits, probabilities, order, strict=True)]


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities float64 [n, K] of logits float32 [n, K]; all NaN in a row whose logits are not all finite."""
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    scaled = np.where(finite, logits, 0).astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.where(finite, powers / powers.sum(axis=1, keepdims=True), np.nan)
