"""What the network says of batches of patches, as probabilities and energies. Knows nothing of labels."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scores(NamedTuple):
    """What the network says of one picture, of K classes.

    logits: float32 [K]. probabilities: float64 [K], sum 1; all NaN where the logits are not all finite. order: the
    classes' indices, most probable first. energy: the log-sum-exp of the logits, whatever the temperature is.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    order: NDArray[np.intp]
    energy: float


def scores_of(logits: NDArray[np.float32], temperature: float) -> list[Scores]:
    """Of logits float32 [n, K], row by row."""
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    exact = np.where(finite, logits, 0).astype(np.float64)
    scaled = exact / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities = np.where(finite, powers / powers.sum(axis=1, keepdims=True), np.nan)
    most = exact.max(axis=1)
    energies = most + np.log(np.exp(exact - most[:, np.newaxis]).sum(axis=1))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return list(map(Scores, logits, probabilities, order, energies.tolist()))
