"""How far two ways of preparing the same pictures have the same answers. Knows nothing of what the ways are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.engine.engine import Engine
from app.engine.runners import Patches


@dataclass(frozen=True)
class Agreement:
    """Of one way with another, over a set of pictures."""

    top1: float  # share of pictures with the same best label
    largest: float  # change of a probability, of all pictures and classes
    mean: float  # of every picture's largest change


def probabilities(engine: Engine, patches: Patches) -> NDArray[np.float64]:
    """float64 [K] of one picture."""
    logits = engine.run([patches]).logits[0].astype(np.float64) / engine.spec.temperature
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def agreement(one: NDArray[np.float64], other: NDArray[np.float64]) -> Agreement:
    """Of probabilities [N, K] with those of the same pictures by another way."""
    change = np.abs(one - other).max(axis=1)
    same = one.argmax(axis=1) == other.argmax(axis=1)
    return Agreement(float(same.mean()), float(change.max()), float(change.mean()))
