"""Metrics of a classifier on labelled pictures, for torch and exported graphs alike."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import cast

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import ImageSet
from model.preprocess import Pixels
from model.spec import Metrics

Logits = NDArray[np.float32]
LEAST_TO_CALIBRATE = 100  # pictures
_CALIBRATION_BINS, _DRAWS = 15, 1000
_MOST_TEMPERATURE = 4.0


@dataclass(frozen=True)
class Evaluation:
    """Rates are fractions in [0, 1]; loss is the mean cross-entropy in nats."""

    num_pictures: int
    top1: float
    top5: float
    loss: float
    calibration_error: float

    @property
    def top1_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of top-1, as two fractions."""
        return top1_interval(self.top1, self.num_pictures)

    def metrics(self, data_set: str) -> Metrics:
        """What a spec holds of it."""
        return Metrics(
            data_set=data_set,
            num_pictures=self.num_pictures,
            top1=self.top1,
            top5=self.top5,
            calibration_error=self.calibration_error,
        )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a rate, seen as `successes` in `trials` (Wilson 1927): two fractions in [0, 1]."""
    if trials == 0:
        return 0.0, 1.0
    rate, z = successes / trials, NormalDist().inv_cdf(0.975)
    middle = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def top1_interval(top1: float, num_pictures: int) -> tuple[float, float]:
    """The 95 % confidence interval of a top-1 accuracy on so many pictures, as two fractions."""
    return wilson_interval(round(top1 * num_pictures), num_pictures)


def accuracy_words(top1: float, num_pictures: int) -> str:
    """Top-1 accuracy on so many pictures with its interval, in words."""
    low, high = top1_interval(top1, num_pictures)
    return f"top-1 {top1:.2%} (95 % interval {low:.1%} to {high:.1%})"


def evaluate(
    logits_of: Callable[[Pixels], Logits], images: ImageSet, *, batch_size: int = 256, temperature: float = 1.0
) -> Evaluation:
    """Run every picture once. `logits_of` turns uint8 [n, H, W, C] into float32 [n, K]."""
    return evaluate_logits(all_logits(logits_of, images, batch_size=batch_size), images.labels, temperature)


def all_logits(
    logits_of: Callable[[Pixels], Logits],
    images: ImageSet,
    places: slice = slice(None),
    *,
    batch_size: int = 256,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float64]:
    """Logits [N, K] of every picture, or of those at `places`, in batches. progress: told (pictures done, of all)."""
    start, stop, _ = places.indices(len(images))
    batches = []
    for first in range(start, stop, batch_size):
        end = min(first + batch_size, stop)
        batches.append(np.asarray(logits_of(images.pixels[first:end]), dtype=np.float64))
        progress(end - start, stop - start)
    return np.concatenate(batches) if batches else np.empty((0, 0))


def evaluate_logits(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float = 1.0) -> Evaluation:
    """Compare logits [N, K] with labels [N]. Raises ArithmeticError where a logit is not a finite number."""
    expect_finite(logits)
    log_probabilities = _log_softmax(logits / temperature)
    own = log_probabilities[np.arange(len(labels)), labels]
    ahead = log_probabilities > own[:, np.newaxis]
    tied_before = (log_probabilities == own[:, np.newaxis]) & (np.arange(logits.shape[1]) < labels[:, np.newaxis])
    rank = (ahead | tied_before).sum(axis=1)  # ties go by index, as they do in argmax
    probabilities = np.exp(log_probabilities)
    return Evaluation(
        num_pictures=len(labels),
        top1=float((rank == 0).mean()),
        top5=float((rank < 5).mean()),
        loss=float(-own.mean()),
        calibration_error=calibration_error(probabilities, labels),
    )


def expect_finite(logits: NDArray[np.floating]) -> None:
    """Raises ArithmeticError where a logit is not a finite number."""
    if not np.isfinite(logits).all():
        raise ArithmeticError("The logits are not all finite numbers.")


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature that minimizes the loss of logits [N, K] of held-out pictures (arXiv 1706.04599, section 4.2).

    The loss is convex in 1 / temperature, so its slope is bisected. The answer lies in [1/4, 4]; with fewer than
    100 pictures it is 1, because the estimate would be too uncertain.
    """
    if len(labels) < LEAST_TO_CALIBRATE:
        return 1.0
    own = logits[np.arange(len(labels)), labels]
    low, high = 1 / _MOST_TEMPERATURE, _MOST_TEMPERATURE  # of 1 / temperature
    for _ in range(40):
        middle = (low + high) / 2
        scaled = logits * middle
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        expected = (powers * logits).sum(axis=1) / powers.sum(axis=1)
        low, high = (low, middle) if (expected - own).mean() > 0 else (middle, high)
    return float(2 / (low + high))


@dataclass(frozen=True)
class ReliabilityBin:
    """A bin of pictures by top probability: their number, its mean, and the share that is right."""

    num_pictures: int
    confidence: float
    accuracy: float


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> list[ReliabilityBin]:
    """The non-empty ones of 15 equal bins of the top probability. probabilities: [N, K]; labels: [N]."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = _bins_of(confidence)
    members = [bins == index for index in np.unique(bins)]
    return [ReliabilityBin(int(m.sum()), float(confidence[m].mean()), float(correct[m].mean())) for m in members]


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Expected calibration error over 15 equal bins of the top probability (arXiv 1706.04599, section 2)."""
    gaps = [one.num_pictures * abs(one.accuracy - one.confidence) for one in reliability(probabilities, labels)]
    return sum(gaps) / len(labels)


@dataclass(frozen=True)
class ErrorByChance:
    """The calibration error of a perfectly calibrated classifier on a sample, over many draws of right and wrong."""

    mean: float
    percentile_95: float


def calibration_error_by_chance(probabilities: NDArray[np.float64], seed: int = 0) -> ErrorByChance:
    """Of 1,000 draws in which each answer is right as often as its top probability says. probabilities: [N, K]."""
    confidence, generator = probabilities.max(axis=1), np.random.default_rng(seed)
    bins, errors = _bins_of(confidence), np.empty(_DRAWS)
    for draw in range(_DRAWS):
        gaps = (generator.random(len(confidence)) < confidence) - confidence
        errors[draw] = np.abs(np.bincount(bins, weights=gaps)).sum() / len(confidence)
    return ErrorByChance(float(errors.mean()), float(np.percentile(errors, 95)))


def calibration_words(error: float, chance: ErrorByChance, num_pictures: int) -> str:
    """A calibration error on so many pictures, beside what chance alone makes of it, in words."""
    return (
        f"calibration error {error:.4f} ({chance.mean:.4f} on average, at most {chance.percentile_95:.4f} in 95 % of "
        f"draws, were it perfectly calibrated on {num_pictures:,} pictures)"
    )


def probabilities_of(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Softmax of logits [N, K] at a temperature."""
    return np.exp(_log_softmax(logits / temperature))


def _bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((confidence * _CALIBRATION_BINS).astype(np.int64), _CALIBRATION_BINS - 1)


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return cast(NDArray[np.float64], shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
