"""Embeddings as clouds of points, one a class."""

import numpy as np
from numpy.typing import NDArray


def clouds(counts: list[int], *, apart: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors float32 [n, 8] and labels [n]: around `apart` on an axis of its class's own, with deviation 1."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    centres = apart * np.eye(len(counts), 8)
    vectors = centres[labels] + generator.normal(size=(len(labels), 8))
    return vectors.astype(np.float32), labels
