"""What the network says of batches of patches, as probabilities. Knows nothing of labels."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scores(NamedTuple):
    """What the network says of one picture, of K classes.

    logits: float32 [K]. probabilities: float64 [K], sum 1. order: the classes' indices, most probable first.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    order: NDArray[np.intp]


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities float64 [n, K] of logits float32 [n, K]; all NaN in a row whose logits are not all finite."""
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    scaled = np.where(finite, logits, 0).astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.where(finite, powers / powers.sum(axis=1, keepdims=True), np.nan)
