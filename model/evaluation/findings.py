"""Everything that is found out about a classifier on one data set, as a value that becomes JSON."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from model.data.scan import shown
from model.errors import DataError
from model.evaluation.cross_validation import CrossValidated, cross_validated
from model.evaluation.evaluate import (
    ErrorByChance,
    ReliabilityBin,
    calibration_error_by_chance,
    calibration_words,
    evaluate_logits,
    probabilities_of,
    reliability,
)
from model.evaluation.risk import RiskCoverage, risk_coverage
from model.evaluation.robustness import Robustness, Unfamiliar
from model.evaluation.scores import ClassScore, class_scores, confusion_matrix


class Findings(BaseModel):
    """Rates are fractions in [0, 1]. robustness, unfamiliar: None where they were not asked for.

    cross_validated: where the pictures are those that the model was calibrated with, and few.
    """

    model_config = ConfigDict(frozen=True)

    data_set: str
    num_pictures: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float
    loss: float
    calibration_error: float
    calibration_error_by_chance: ErrorByChance
    classes: tuple[ClassScore, ...]
    reliability: tuple[ReliabilityBin, ...]
    risk_coverage: RiskCoverage
    cross_validated: CrossValidated | None = None
    robustness: Robustness | None = None
    unfamiliar: Mapping[str, Unfamiliar] | None = None

    @property
    def calibration_words(self) -> str:
        """The calibration error beside what chance makes of it."""
        return calibration_words(self.calibration_error, self.calibration_error_by_chance, self.num_pictures)


def findings_of(
    data_set: str,
    logits: NDArray[np.float64],
    truth: NDArray[np.int64],
    labels: tuple[str, ...],
    temperature: float,
    *,
    has_calibrated: bool = False,
    robustness: Robustness | None = None,
    unfamiliar: Mapping[str, Unfamiliar] | None = None,
) -> Findings:
    """From logits [N, K] and labels [N] of a data set's pictures, N at least 1.

    has_calibrated: whether the model was calibrated with these pictures.
    """
    evaluation = evaluate_logits(logits, truth, temperature)
    probabilities = probabilities_of(logits, temperature)
    return Findings(
        data_set=data_set,
        num_pictures=evaluation.num_pictures,
        top1=evaluation.top1,
        top1_interval=evaluation.top1_interval,
        top5=evaluation.top5,
        loss=evaluation.loss,
        calibration_error=evaluation.calibration_error,
        calibration_error_by_chance=calibration_error_by_chance(probabilities),
        classes=tuple(class_scores(confusion_matrix(logits.argmax(axis=1), truth, len(labels)), labels)),
        reliability=tuple(reliability(probabilities, truth)),
        risk_coverage=risk_coverage(probabilities, truth),
        cross_validated=cross_validated(logits, truth) if has_calibrated else None,
        robustness=robustness,
        unfamiliar=unfamiliar,
    )


def write_findings(findings: Findings, path: Path) -> None:
    """Write JSON, null for a rate that has no denominator. Raises DataError where `path` cannot be written."""
    text = findings.model_dump_json(indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be written: {error}") from error
