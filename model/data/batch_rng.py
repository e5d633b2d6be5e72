"""Random numbers for the pictures of one batch. Knows nothing of their use.

A picture's numbers depend on the batch's key and on the picture's index in the batch, never on the process that draws
them or on the number of shards: a run is the same with any number of processes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class BatchRng:
    """Draws for `rows` of a batch of `total` pictures. Every draw is made for the whole batch, and the rows cut out."""

    def __init__(
        self, key: Sequence[int], total: int, rows: slice | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self._generator = np.random.default_rng(list(key))
        self._total = total
        self._rows = rows or slice(0, total)
        self._device = device

    def uniform(self, *shape: int) -> Tensor:
        """float32 [n, *shape] in [0, 1)."""
        return self._cut(self._generator.random((self._total, *shape), dtype=np.float32))

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """int64 [n, *shape] from low to high, both included."""
        return self._cut(self._generator.integers(low, high, (self._total, *shape), endpoint=True))

    def beta(self, alpha: float) -> Tensor:
        """float32 [n] of the Beta(alpha, alpha) distribution."""
        return self._cut(self._generator.beta(alpha, alpha, self._total).astype(np.float32))

    def normal(self, *shape: int) -> Tensor:
        """float32 [n, *shape], mean 0 and standard deviation 1."""
        return self._cut(self._generator.standard_normal((self._total, *shape), dtype=np.float32))

    def noise(self, *shape: int) -> Tensor:
        """uint8 [*shape] in 0..255, the same for every picture of the batch."""
        return torch.from_numpy(self._generator.integers(0, 256, shape, dtype=np.uint8)).to(self._device)

    def _cut(self, drawn: NDArray[np.float32] | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(drawn[self._rows])).to(self._device)
