"""What the network says of batches of patches: probabilities, energies, embeddings. Knows nothing of labels."""

from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.engine.runners import Outputs
from app.errors import ServiceError


class NoEmbedding(ServiceError):
    """The model's graph gives no embeddings."""

    status, code, title = 404, "no_embedding", "No embedding"


class Scores(NamedTuple):
    """What the network says of one picture, of K classes.

    logits: float32 [K]. probabilities: float64 [K], sum 1; all NaN where the logits are not all finite. order: the
    classes' indices, most probable first. energy: the log-sum-exp of the logits, whatever the temperature is.
    embedding: float32 [C], a view of its batch's; None where the graph has none.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    order: NDArray[np.intp]
    energy: float
    embedding: NDArray[np.float32] | None


def scores_of(outputs: Outputs, temperature: float) -> list[Scores]:
    """Of the outputs of n pictures, row by row."""
    logits, embedding = outputs
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    exact = np.where(finite, logits, 0).astype(np.float64)
    scaled = exact / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities = np.where(finite, powers / powers.sum(axis=1, keepdims=True), np.nan)
    most = exact.max(axis=1)
    energies = most + np.log(np.exp(exact - most[:, np.newaxis]).sum(axis=1))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    embeddings = repeat(None) if embedding is None else embedding
    return list(map(Scores, logits, probabilities, order, energies.tolist(), embeddings))
