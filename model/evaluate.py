"""How good a classifier is on labelled pictures, whatever runs it: torch or an exported graph."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data import PictureSet
from model.preprocess import Pixels

Logits = NDArray[np.float32]
_CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """Rates are fractions in [0, 1]; loss is the mean cross-entropy in nats."""

    num_pictures: int
    top1: float
    top5: float
    loss: float
    calibration_error: float


def evaluate(
    logits_of: Callable[[Pixels], Logits], pictures: PictureSet, *, batch_size: int = 256, temperature: float = 1.0
) -> Evaluation:
    """Run every picture once. `logits_of` turns uint8 [n, H, W, C] into float32 [n, K]."""
    batches = [
        np.asarray(logits_of(pictures.pixels[start : start + batch_size]), dtype=np.float64)
        for start in range(0, len(pictures), batch_size)
    ]
    return evaluate_logits(np.concatenate(batches), pictures.labels, temperature)


def evaluate_logits(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float = 1.0) -> Evaluation:
    """Judge logits [N, K] against labels [N]. Raises ArithmeticError where a logit is not a finite number."""
    if not np.isfinite(logits).all():
        raise ArithmeticError("The logits are not all finite numbers.")
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    log_probabilities = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
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


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Expected calibration error over 15 equal bins of the top probability (arXiv 1706.04599, section 2)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = [abs(correct[bins == index].sum() - confidence[bins == index].sum()) for index in np.unique(bins)]
    return float(sum(gaps) / len(labels))
