"""Maps of a teacher as a few int8 numbers a place: principal components, in parts of their deviation."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

STEPS = 25  # int8 steps in a deviation: five deviations fit


@dataclass(frozen=True)
class Codes:
    """mean: [C]; basis: [C, K], orthonormal; deviations: [K], falling. float32."""

    mean: Tensor
    basis: Tensor
    deviations: Tensor

    @classmethod
    def fitted(cls, maps: Tensor, count: int) -> Self:
        """The first `count` principal components of maps float32 [..., C]."""
        places = maps.flatten(0, -2).double()
        mean = places.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((places - mean).T))  # rising
        deviations, basis = values[-count:].flip(0).clamp(min=1e-12).sqrt(), vectors[:, -count:].flip(1)
        return cls(mean.float(), basis.float(), deviations.float())

    def encode(self, maps: Tensor) -> Tensor:
        """int8 [..., K] of maps float32 [..., C]."""
        components = (maps - self.mean) @ self.basis / self.deviations
        return (components * STEPS).round().clamp(-127, 127).to(torch.int8)

    @property
    def weights(self) -> Tensor:
        """float32 [K], mean 1: how much each component counts; between all alike and by their variance."""
        return self.deviations / self.deviations.mean()

    def targets(self, codes: Tensor) -> Tensor:
        """float32 [..., K] of codes int8 [..., K]: what a pupil is to say."""
        return codes.float() / STEPS * self.weights
