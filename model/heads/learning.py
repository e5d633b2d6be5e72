"""Embeddings -> a head that is judged. Knows nothing of networks or files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.confidence import Calibration, fit_calibration, fit_conformal, fit_reference
from model.evaluation.evaluate import LEAST_TO_CALIBRATE, Evaluation, evaluate_logits
from model.heads import hidden, regression
from model.heads.folds import Fitted, Head
from model.heads.stored import Stored
from model.recipe import Recipe
from model.weights.config import GeluFlavour

VALIDATION = "validation split"
CROSS_VALIDATION = "cross-validation of the training pictures"


@dataclass(frozen=True)
class Judged:
    """A head, and what was found about it on the pictures that `judged_by` names.

    on_val: the same on the validation pictures, however few.
    """

    fitted: Fitted[Head]
    evaluation: Evaluation
    calibration: Calibration
    judged_by: str
    on_val: Evaluation


def learn(whole: Stored, recipe: Recipe, hidden_dim: int = 0, gelu: GeluFlavour = "erf") -> Judged:
    """Fit a head, with a hidden layer of this width where it is not 0, to the training pictures, and judge it.

    By the validation pictures, where they are a set of their own or enough to calibrate by; else by folds of the
    training pictures, each judged by a head that has not seen it.
    """
    fitted = _fit(whole, recipe, hidden_dim, gelu)
    on_val = fitted.head.logits(whole.val.vectors)
    by_folds = fitted.held_out_logits
    if whole.is_held_out and len(whole.val) < LEAST_TO_CALIBRATE and by_folds is not None:
        return _judged(fitted, by_folds, whole.train.labels, CROSS_VALIDATION, on_val, whole)
    return _judged(fitted, on_val, whole.val.labels, VALIDATION, on_val, whole)


def _fit(whole: Stored, recipe: Recipe, hidden_dim: int, gelu: GeluFlavour) -> Fitted[Head]:
    train, num_classes = whole.train, len(whole.labels)
    if not hidden_dim:
        return regression.fit(train.vectors, train.labels, num_classes, balance=recipe.balance, seed=recipe.seed)
    sizes = hidden.Sizes(hidden_dim, num_classes, gelu)
    return hidden.fit(train.vectors, train.labels, sizes, balance=recipe.balance, seed=recipe.seed)


def calibrated(logits: NDArray[np.float64], truth: NDArray[np.int64], judged_by: str) -> Calibration:
    """The calibration by these pictures; at temperature 1 where no answer is wrong.

    Such pictures would have any temperature fall to its bound, and every answer be all but certain.
    """
    found = fit_calibration(logits, truth, judged_by)
    if found.temperature >= 1 or (logits.argmax(axis=1) != truth).any():
        return found
    conformal = fit_conformal(logits, truth, 1.0, judged_by)
    return Calibration(1.0, found.energy_threshold, conformal, fit_reference(logits, 1.0, judged_by))


def _judged(
    fitted: Fitted[Head],
    logits: NDArray[np.float64],
    truth: NDArray[np.int64],
    judged_by: str,
    on_val: NDArray[np.float64],
    whole: Stored,
) -> Judged:
    calibration = calibrated(logits, truth, judged_by)
    temperature = calibration.temperature
    return Judged(
        fitted,
        evaluate_logits(logits, truth, temperature),
        calibration,
        judged_by,
        evaluate_logits(on_val, whole.val.labels, temperature),
    )
