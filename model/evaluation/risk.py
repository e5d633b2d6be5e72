"""What a classifier's confidence is worth: risk against coverage, and familiar pictures against unfamiliar ones.

Knows scores and labels, no pictures.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from model.data.dataset import evenly_spaced

_MOST_POINTS = 101


class RiskCoverage(BaseModel):
    """The error among the pictures that are kept, the surest first, against their share (arXiv 1705.08500).

    Shares are fractions in [0, 1]. area: under the curve of every picture, AURC; 0 is best.
    """

    model_config = ConfigDict(frozen=True)

    coverage: tuple[float, ...]
    error: tuple[float, ...]
    area: float

    def error_at(self, coverage: float) -> float:
        """The error where about so many are kept."""
        return float(np.interp(coverage, self.coverage, self.error))


def risk_coverage(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> RiskCoverage:
    """By the probability of the best label. probabilities: [N, K]; truth: [N], N at least 1."""
    wrong = probabilities.argmax(axis=1) != truth
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    kept = np.arange(1, len(truth) + 1)
    errors = wrong[order].cumsum() / kept
    points = evenly_spaced(len(truth), _MOST_POINTS)
    return RiskCoverage(
        coverage=tuple((kept[points] / len(truth)).tolist()),
        error=tuple(errors[points].tolist()),
        area=float(errors.mean()),
    )


def auroc(familiar: NDArray[Any], unfamiliar: NDArray[Any]) -> float:
    """How often a familiar picture has the higher score of two; equal ones count half. By ranks (Mann-Whitney)."""
    _, place, counts = np.unique(np.concatenate([familiar, unfamiliar]), return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]  # from 1; those of equal scores are their mean
    count = len(familiar)
    above = ranks[:count].sum() - count * (count + 1) / 2
    return float(above / (count * len(unfamiliar)))
