"""What a classifier's answers to held-out pictures look like together, for live answers to be compared with.

Knows nothing of how either are made.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

MOST_CLASS_BINS = 20  # more classes than these share bins, neighbors together
PROBABILITY_BINS, ENERGY_BINS = 10, 10
_HALF = 0.5  # a picture that every bin is given, so that an empty one is no infinite surprise

Share = Annotated[float, Field(ge=0, le=1)]


class Bins(BaseModel):
    """One number for each bin, of the three things that are compared: shares or counts."""

    model_config = ConfigDict(frozen=True)

    classes: tuple[float, ...]
    probability: tuple[float, ...]
    energy: tuple[float, ...]


class Reference(BaseModel):
    """Shares of the answers to `num_pictures` held-out pictures, each sum 1.

    classes [K]: by the most probable label. probability [10]: by its probability, in steps of 0.1. energy [10]: by
    the energy, in bins between `energy_edges` [9], which hold about as many pictures each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_set: str
    num_pictures: int = Field(ge=1)
    classes: tuple[Share, ...] = Field(min_length=1)
    probability: tuple[Share, ...] = Field(min_length=PROBABILITY_BINS, max_length=PROBABILITY_BINS)
    energy_edges: tuple[FiniteFloat, ...] = Field(min_length=ENERGY_BINS - 1, max_length=ENERGY_BINS - 1)
    energy: tuple[Share, ...] = Field(min_length=ENERGY_BINS, max_length=ENERGY_BINS)

    def expected(self) -> Bins:
        """The shares by bin."""
        classes = [0.0] * class_bins(len(self.classes))
        for index, share in enumerate(self.classes):
            classes[class_bin(index, len(self.classes))] += share
        return Bins(classes=tuple(classes), probability=self.probability, energy=self.energy)

    def counted(self, answers: Sequence[tuple[int, float, float]]) -> Bins:
        """How many answers (index of the best label, its probability, energy) fall into each bin."""
        num_classes = len(self.classes)
        classes, probability, energy = [0] * class_bins(num_classes), [0] * PROBABILITY_BINS, [0] * ENERGY_BINS
        for index, likely, found in answers:
            classes[class_bin(index, num_classes)] += 1
            probability[probability_bin(likely)] += 1
            energy[bisect_right(self.energy_edges, found)] += 1
        return Bins(classes=tuple(classes), probability=tuple(probability), energy=tuple(energy))

    @model_validator(mode="after")
    def _is_a_distribution(self) -> Self:
        for name in ("classes", "probability", "energy"):
            total = math.fsum(getattr(self, name))
            if abs(total - 1) > 1e-3:
                raise ValueError(f"{name} has the sum {total:g}; expected shares with the sum 1.")
        if list(self.energy_edges) != sorted(self.energy_edges):
            raise ValueError("energy_edges are not in ascending order; expected them sorted.")
        return self


def class_bins(num_classes: int) -> int:
    """How many bins the classes have."""
    return min(num_classes, MOST_CLASS_BINS)


def class_bin(index: int, num_classes: int) -> int:
    """The bin of a class."""
    return index * class_bins(num_classes) // num_classes


def probability_bin(probability: float) -> int:
    """The bin of a probability in [0, 1]."""
    return min(int(probability * PROBABILITY_BINS), PROBABILITY_BINS - 1)


def stability_index(counts: Sequence[float], shares: Sequence[float], num_pictures: int) -> float:
    """The population stability index of counts against the shares of `num_pictures` others: 0 where they are alike.

    The sum of (p - q) ln(p / q) over the bins, each bin of both sides with half a picture more.
    """
    bins = len(counts)
    seen, known = math.fsum(counts) + _HALF * bins, num_pictures + _HALF * bins
    pairs = (
        ((count + _HALF) / seen, (share * num_pictures + _HALF) / known)
        for count, share in zip(counts, shares, strict=True)
    )
    return math.fsum((p - q) * math.log(p / q) for p, q in pairs)
