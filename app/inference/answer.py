"""What is told of one picture's scores: labels, whether the model is sure, a set of labels. Knows nothing of HTTP."""

import math
from typing import NamedTuple, TypedDict

import numpy as np

from app.errors import BadParameter
from app.inference.scores import Scores
from model.spec import ModelSpec

DEFAULT_TOP_K = 5


class Asked(TypedDict, total=False):
    """What a client asks for, unchecked: how many labels, an energy threshold, the coverage of a set."""

    top_k: int | None
    threshold: float | None
    set: float | None


class Wanted(NamedTuple):
    """What an answer is to have. `threshold`: the energy below which it is uncertain; None: it does not say.

    `coverage` of its set, and the largest score of a label in there; None: it has no set.
    """

    top_k: int
    threshold: float | None = None
    coverage: float | None = None
    largest_score: float = 1.0


class Prediction(TypedDict):
    """One label with its index among the model's classes and its probability in [0, 1], as clients get it."""

    label: str
    index: int
    probability: float


class LabelSet(TypedDict):
    """Labels, most probable first, among which the true one is with the probability `coverage`."""

    coverage: float
    labels: list[str]


class Certainty(TypedDict, total=False):
    """Whether an answer is uncertain and its energy, where there is a threshold; a set, where one is wanted."""

    uncertain: bool
    energy: float
    set: LabelSet


def wanted_of(spec: ModelSpec, asked: Asked) -> Wanted:
    """What this model is to answer. Raises BadParameter for what it has not, or nobody can have."""
    threshold, coverage = asked.get("threshold"), asked.get("set")
    top_k = _top_k(spec, asked.get("top_k"))
    if threshold is None:
        threshold = spec.energy_threshold
    elif not math.isfinite(threshold):
        raise BadParameter(f"threshold is {threshold}; expected a finite number.")
    if coverage is None:
        return Wanted(top_k, threshold)
    if not 0 < coverage < 1:
        raise BadParameter(f"set is {coverage}; expected a coverage above 0 and below 1.")
    if spec.conformal is None:
        raise BadParameter(f"set is {coverage}; this model has no scores to make sets of, expected none.")
    return Wanted(top_k, threshold, coverage, spec.conformal.quantile(coverage))


def predictions_of(spec: ModelSpec, scores: Scores, top_k: int) -> list[Prediction]:
    """The `top_k` most probable labels."""
    labels, best = spec.labels, scores.order[:top_k]
    found = zip(best.tolist(), scores.probabilities[best].tolist(), strict=True)
    return [{"label": labels[index], "index": index, "probability": probability} for index, probability in found]


def certainty_of(spec: ModelSpec, scores: Scores, wanted: Wanted) -> Certainty:
    """What is told beside the labels. A set is never empty: it has the most probable label."""
    certainty: Certainty = {}
    if wanted.threshold is not None:
        certainty["uncertain"] = scores.energy < wanted.threshold
        certainty["energy"] = scores.energy
    if wanted.coverage is not None:
        count = max(1, int(np.count_nonzero(1 - scores.probabilities <= wanted.largest_score)))
        labels = [spec.labels[index] for index in scores.order[:count].tolist()]
        certainty["set"] = {"coverage": wanted.coverage, "labels": labels}
    return certainty


def _top_k(spec: ModelSpec, top_k: int | None) -> int:
    if top_k is None:
        return min(DEFAULT_TOP_K, spec.num_classes)
    if not 1 <= top_k <= spec.num_classes:
        raise BadParameter(f"top_k is {top_k}; expected 1 to {spec.num_classes}, the number of classes.")
    return top_k
