"""What was measured, in Markdown. Knows nothing of how."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

import numpy as np
from numpy.typing import NDArray

from benchmarks.agreement import Agreement
from cli.bench.stopwatch import Measured

WANTED = 1.5  # times as fast as the service's own path, or no option is worth its keep
_COLUMNS = "\n" + "|---" * 5 + "|"
SPEED_HEAD = (
    "| library | resizes by | ms | times as fast as today (middle half of the rounds) "
    f"| another thread runs |{_COLUMNS}"
)
ANSWERS_HEAD = (
    "| library | same best label | largest change of a probability | mean of every picture's largest "
    f"| levels of a pixel: mean, at most |{_COLUMNS}"
)


@dataclass(frozen=True)
class Difference:
    """Between the patches of two ways, in levels of 255: on average, and at most."""

    mean: float
    most: int


def ratios(one: Measured, other: Measured) -> list[float]:
    """How many times as fast as `other` `one` was, round by round."""
    return [first / second for first, second in zip(one.rounds, other.rounds, strict=True)]


def reaching(found: Mapping[str, Measured], today: str, wanted: float = WANTED) -> list[str]:
    """Who is `wanted` times as fast as today's path, in the median round."""
    return [name for name, one in found.items() if name != today and median(ratios(one, found[today])) >= wanted]


def speed_row(name: str, resize: str, one: Measured, today: Measured, free: float) -> str:
    """One thread, against today's; and how long another may run Python for each second of this one."""
    each = ratios(one, today)
    low, _, high = quantiles(each, n=4, method="inclusive")
    return (
        f"| {name} | {resize} | {1e3 / one.rate:.2f} | **{median(each):.2f}** ({low:.2f} to {high:.2f}) | {free:.2f} |"
    )


def answers_row(name: str, found: Agreement, difference: Difference) -> str:
    """One library's answers against today's."""
    return (
        f"| {name} | {found.top1:.1%} | {found.largest:.4f} | {found.mean:.4f} "
        f"| {difference.mean:.2f}, {difference.most} |"
    )


def difference(one: Sequence[NDArray[np.uint8]], other: Sequence[NDArray[np.uint8]]) -> Difference:
    """Between the patches of the same pictures, uint8 [S, P*P*C] each."""
    changes = [np.abs(first.astype(np.int16) - second) for first, second in zip(one, other, strict=True)]
    return Difference(float(np.mean([change.mean() for change in changes])), max(int(c.max()) for c in changes))
