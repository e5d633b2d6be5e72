"""What tells sure answers from others, fitted to the logits of held-out pictures. Knows neither networks nor graphs."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from model.evaluation.evaluate import LEAST_TO_CALIBRATE, expect_finite, fit_temperature, probabilities_of
from model.reference import ENERGY_BINS, PROBABILITY_BINS, Reference, probability_bin
from model.spec import Conformal, ModelSpec

_SHARE = 0.95
_MOST_SCORES = 1000
_ENERGY_STEPS, _SCORE_STEPS = 1e4, 1e6  # to the unit


@dataclass(frozen=True)
class Calibration:
    """What a spec holds of it. None where the pictures were too few."""

    temperature: float
    energy_threshold: float | None = None
    conformal: Conformal | None = None
    reference: Reference | None = None

    def completed(self, spec: ModelSpec) -> ModelSpec:
        """The spec with this calibration in place of its own."""
        return spec.model_copy(update=vars(self))


def fit_calibration(logits: NDArray[np.float64], labels: NDArray[np.int64], data_set: str) -> Calibration:
    """All of it, of logits [N, K] and labels [N]. Raises ArithmeticError where a logit is not a finite number."""
    expect_finite(logits)
    temperature = fit_temperature(logits, labels)
    conformal = fit_conformal(logits, labels, temperature, data_set)
    reference = fit_reference(logits, temperature, data_set)
    return Calibration(temperature, fit_energy_threshold(logits), conformal, reference)


def energies(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log-sum-exp [N] of logits [N, K]: the negated free energy at temperature 1 (arXiv 2010.03759)."""
    most = logits.max(axis=1, keepdims=True)
    return cast(NDArray[np.float64], most[:, 0] + np.log(np.exp(logits - most).sum(axis=1)))


def fit_energy_threshold(logits: NDArray[np.float64], share: float = _SHARE) -> float | None:
    """An energy that at least `share` of the pictures reach, rounded down to 4 decimals; None below 100 pictures.

    Raises: ArithmeticError where a logit is not a finite number.
    """
    expect_finite(logits)
    if len(logits) < LEAST_TO_CALIBRATE:
        return None
    threshold = np.quantile(energies(logits), 1 - share, method="lower")
    return float(np.floor(threshold * _ENERGY_STEPS) / _ENERGY_STEPS)


def fit_conformal(
    logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float, data_set: str
) -> Conformal | None:
    """The scores of the true labels, rounded up to 6 decimals, at most 1000 of them; None below 100 pictures.

    Rounding and thinning make sets larger, never smaller. Raises: ArithmeticError where a logit is not a finite number.
    """
    expect_finite(logits)
    count = len(labels)
    if count < LEAST_TO_CALIBRATE:
        return None
    own = probabilities_of(logits, temperature)[np.arange(count), labels]
    scores = np.sort(np.minimum(np.ceil((1 - own) * _SCORE_STEPS) / _SCORE_STEPS, 1))
    kept = min(count, _MOST_SCORES)
    ranks = -(-np.arange(1, kept + 1) * count // kept)  # 1 to count, the last one always among them
    return Conformal(data_set=data_set, num_pictures=count, scores=tuple(scores[ranks - 1].tolist()))


def fit_reference(logits: NDArray[np.float64], temperature: float, data_set: str) -> Reference | None:
    """What the answers to these pictures look like together, rounded to 6 decimals; None below 100 pictures.

    Raises: ArithmeticError where a logit is not a finite number.
    """
    expect_finite(logits)
    count, num_classes = logits.shape
    if count < LEAST_TO_CALIBRATE:
        return None
    found = energies(logits)
    edges = np.round(np.quantile(found, np.arange(1, ENERGY_BINS) / ENERGY_BINS), 6)
    best = np.bincount(logits.argmax(axis=1), minlength=num_classes)
    likely = probabilities_of(logits, temperature).max(axis=1)
    likely_bins = np.bincount([probability_bin(one) for one in likely.tolist()], minlength=PROBABILITY_BINS)
    energy_bins = np.bincount(np.searchsorted(edges, found, side="right"), minlength=ENERGY_BINS)
    classes, probability, energy = (
        tuple(np.round(counts / count, 6).tolist()) for counts in (best, likely_bins, energy_bins)
    )
    return Reference(
        data_set=data_set,
        num_pictures=count,
        classes=classes,
        probability=probability,
        energy_edges=tuple(edges.tolist()),
        energy=energy,
    )


def label_sets(probabilities: NDArray[np.float64], conformal: Conformal, coverage: float) -> NDArray[np.bool_]:
    """Which labels are in each picture's set, [N, K]: the most probable one always is."""
    inside = 1 - probabilities <= conformal.quantile(coverage)
    inside[np.arange(len(probabilities)), probabilities.argmax(axis=1)] = True
    return inside
