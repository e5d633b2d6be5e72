"""Confusions among classes: counts and rates, worst first. Knows no pictures and draws nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassScore:
    """One class: how many pictures it has, and the fractions in [0, 1]; nan where the denominator is 0."""

    label: str
    num_pictures: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ConfusedPair:
    """How many of the `num_pictures` pictures of one class were taken for another."""

    truth: str
    predicted: str
    count: int
    num_pictures: int


def confusion_matrix(predicted: NDArray[np.intp], truth: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Counts [K, K]: a row for each true class, a column for each predicted one."""
    counts = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def class_scores(confusion: NDArray[np.int64], labels: tuple[str, ...]) -> list[ClassScore]:
    """Precision, recall and F1 of every class, in the order of the labels."""
    right, images, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        precision, recall, f1 = right / predicted, right / images, 2 * right / (images + predicted)
    return [
        ClassScore(label, int(images[index]), float(precision[index]), float(recall[index]), float(f1[index]))
        for index, label in enumerate(labels)
    ]


def percent(rate: float) -> str:
    """A rate in words: "n/a" where its denominator is 0."""
    return "n/a" if np.isnan(rate) else f"{rate:.1%}"


def worst_first(scores: list[ClassScore]) -> list[ClassScore]:
    """The classes that have pictures, by F1 and then by label."""
    return sorted((score for score in scores if score.num_pictures), key=lambda score: (score.f1, score.label))


def macro_f1(scores: list[ClassScore]) -> float:
    """The mean F1 of the classes that have pictures."""
    return float(np.mean([score.f1 for score in scores if score.num_pictures]))


def confused_pairs(confusion: NDArray[np.int64], labels: tuple[str, ...], most: int) -> list[ConfusedPair]:
    """At most so many confusions, the most frequent first."""
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(labels)) for place in order]
    images = confusion.sum(axis=1)
    return [
        ConfusedPair(labels[row], labels[column], int(wrong[row, column]), int(images[row]))
        for row, column in pairs
        if wrong[row, column]
    ]


def most_confused(confusion: NDArray[np.int64], most: int) -> NDArray[np.intp]:
    """Indices of the most confused classes, at most so many, in the order of the labels."""
    wrong = confusion - np.diag(np.diag(confusion))
    mistakes = wrong.sum(axis=0) + wrong.sum(axis=1)
    return np.sort(np.argsort(-mistakes, kind="stable")[:most])
