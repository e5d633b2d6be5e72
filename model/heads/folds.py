"""What every way to fit a head has in common: folds of the training pictures, features of one scale, and the loss.

Shapes: n pictures, C numbers an embedding, K classes. Knows nothing of networks or pictures.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]

_FOLDS = 5
_DEVIATION = 1e-3  # added to every feature's: one that never varies says nothing


class Head(Protocol):
    """Embeddings -> logits."""

    @property
    def hidden_dim(self) -> int:
        """Width of the hidden layer; 0 where there is none."""

    def logits(self, vectors: Vectors) -> NDArray[np.float64]:
        """[n, K] of [n, C]."""

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """What the network has of it, by the network's names."""


Head_co = TypeVar("Head_co", bound=Head, covariant=True)


@dataclass(frozen=True)
class Fitted(Generic[Head_co]):
    """A head, the weight decay it was fitted with, and what heads of the folds said of the pictures they had not seen.

    held_out_logits: float64 [n, K]; None where a class has a single picture.
    """

    head: Head_co
    decay: float
    held_out_logits: NDArray[np.float64] | None


def stratified_folds(labels: Labels, seed: int, most: int = _FOLDS) -> NDArray[np.intp] | None:
    """The fold [n] of every picture, each class spread evenly; as many folds as the smallest class has pictures, at
    most five. None where a class has one picture.
    """
    present = np.unique(labels)
    count = min(most, *(int((labels == label).sum()) for label in present))
    if count < 2:
        return None
    generator = np.random.default_rng(seed)
    folds = np.empty(len(labels), dtype=np.intp)
    for label in present:
        members = generator.permutation(np.flatnonzero(labels == label))
        folds[members] = (np.arange(len(members)) + generator.integers(count)) % count
    return folds


def mean_loss(logits: NDArray[np.float64], labels: Labels, weights: NDArray[np.float32]) -> float:
    """Cross-entropy of logits [n, K], the weight [K] of its class for each picture."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(axis=1))
    return float(-(own * weights[labels]).mean())


def standard(vectors: Vectors) -> tuple[Tensor, Tensor, Tensor]:
    """The vectors [n, C] with a mean of 0 and a deviation of 1 in every feature, and what these were [C]."""
    rows = torch.from_numpy(vectors)
    mean, deviation = rows.mean(0), rows.std(0, correction=0) + _DEVIATION
    return (rows - mean) / deviation, mean, deviation
