"""Whether a calibration holds on pictures that it was not fitted to, where they are too few to put some aside."""

from dataclasses import dataclass
from statistics import mean
from typing import cast

import numpy as np
from numpy.typing import NDArray

from model.evaluation.confidence import Calibration, energies, fit_calibration, label_sets
from model.evaluation.evaluate import LEAST_TO_CALIBRATE, evaluate_logits, probabilities_of
from model.spec import Conformal

SET_COVERAGES = (0.9, 0.95, 0.99)
_FOLDS, _REPEATS = 10, 5
_MOST_PICTURES = 5000  # of more, one parameter and two quantiles tell the same on both sides
_MOST_LOGITS = 500_000  # which take seconds


@dataclass(frozen=True)
class CrossValidated:
    """What held on the fold that temperature, threshold and sets were not fitted to: means over all folds and repeats.

    temperatures: the least and the greatest that were fitted. loss: nats. familiar: the share of the pictures whose
    energy is not below the threshold. covered: the share whose sets hold the right label, for each of SET_COVERAGES.
    """

    folds: int
    repeats: int
    temperatures: tuple[float, float]
    loss: float
    calibration_error: float
    familiar: float
    covered: tuple[float, ...]

    def __str__(self) -> str:
        shares = [f"{share:.1%}" for share in self.covered]
        return (
            f"loss {self.loss:.4f}, calibration error {self.calibration_error:.4f}, {self.familiar:.1%} of the "
            f"pictures not below the threshold, the right label in {_listed(shares)} of the sets of coverage "
            f"{_listed([f'{coverage:g}' for coverage in SET_COVERAGES])} ({self.folds} folds, {self.repeats} times; "
            f"temperatures from {self.temperatures[0]:.3f} to {self.temperatures[1]:.3f})"
        )


def cross_validated(
    logits: NDArray[np.float64], labels: NDArray[np.int64], *, seed: int = 0, repeats: int = _REPEATS
) -> CrossValidated | None:
    """Of logits [N, K] and labels [N], in ten folds drawn anew each time.

    None where nine folds are fewer than the 100 pictures that a calibration takes, where there are more than 5,000, and
    of more than 500,000 logits.
    Raises ArithmeticError where a logit is not a finite number.
    """
    count = len(labels)
    if count - -(-count // _FOLDS) < LEAST_TO_CALIBRATE or count > _MOST_PICTURES or logits.size > _MOST_LOGITS:
        return None
    generator, every = np.random.default_rng(seed), np.arange(count)
    temperatures, judged = np.empty((repeats, count)), []
    familiar, covered = 0, np.zeros(len(SET_COVERAGES))
    for repeat in range(repeats):
        fold_of = generator.permutation(count) % _FOLDS
        for fold in range(_FOLDS):
            inside, outside = every[fold_of != fold], every[fold_of == fold]
            fitted = fit_calibration(logits[inside], labels[inside], "the other folds")
            temperatures[repeat, outside] = fitted.temperature
            familiar += int((energies(logits[outside]) >= cast(float, fitted.energy_threshold)).sum())
            covered += _covered(logits[outside], labels[outside], fitted)
        judged.append(evaluate_logits(logits / temperatures[repeat, :, np.newaxis], labels))
    return CrossValidated(
        folds=_FOLDS,
        repeats=repeats,
        temperatures=(float(temperatures.min()), float(temperatures.max())),
        loss=mean(one.loss for one in judged),
        calibration_error=mean(one.calibration_error for one in judged),
        familiar=familiar / (count * repeats),
        covered=tuple((covered / (count * repeats)).tolist()),
    )


def _covered(logits: NDArray[np.float64], labels: NDArray[np.int64], fitted: Calibration) -> list[int]:
    """How many sets hold the right label, for each of SET_COVERAGES."""
    probabilities, own = probabilities_of(logits, fitted.temperature), (np.arange(len(labels)), labels)
    conformal = cast(Conformal, fitted.conformal)
    return [int(label_sets(probabilities, conformal, coverage)[own].sum()) for coverage in SET_COVERAGES]


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
