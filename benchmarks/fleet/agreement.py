"""What was measured and what was simulated, slice by slice: whether they agree, and tables of it. Measures nothing.

Which slices count was fixed before any was looked at: those whose two references differ by 8 % at most, as one speed is
simulated for all of a slice. All of them are told as well.

Each slice has its own ratio, simulated over measured; **the median of a load's ratios is the verdict**. A slice is
simulated with its own speed and its own arrivals, so its ratio holds what the simulation does wrong, while the median
of what was measured and that of what was simulated may be of different slices, which another speed and other arrivals
set apart. The simulation against itself, where there is nothing wrong (0.8 times the capacity, seven slices, speeds of
0.85 to 1.15 known to 1.5 %), has a ratio of medians of 1.01 with a standard deviation of 0.11, which misses 15 % in
one run of six, and a median of ratios of 0.99 with one of 0.06. Where the ratio of the medians misses 15 % it is said
beside the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from textwrap import fill

import numpy as np

from benchmarks.fleet.observed import Figures

_WITHIN = 0.15
_POINTS = 0.02
_STEADY = 0.08  # of their mean: how much the references around a slice may differ
_ENOUGH = 0.5  # of a load's slices have to be steady
_WIDTH = 118  # of lines of prose
_SHOWN = 0.005  # a spread that is not 0 % in words
_FIGURES = ("rate_s", "p50_ms", "p99_ms", "refused")


@dataclass(frozen=True)
class Slice:
    """Some seconds of one load. `references`: answers a second right before it, and right after."""

    measured: Figures
    simulated: Figures
    references: tuple[float, float]

    @property
    def is_steady(self) -> bool:
        """Whether the machine was as fast after it as before."""
        return is_steady(*self.references)


@dataclass(frozen=True)
class Pair:
    """One load, measured and simulated, in `slices`, at least one. `steady`, `of`: how many there are, and in all."""

    name: str
    slices: tuple[Slice, ...]
    steady: int
    of: int

    @property
    def measured(self) -> Figures:
        """The median of each figure."""
        return middle([one.measured for one in self.slices])

    @property
    def simulated(self) -> Figures:
        """The same."""
        return middle([one.simulated for one in self.slices])

    def spread(self, figure: str) -> float:
        """Half the distance from the least to the most that was measured; of rates and times a share of the median."""
        found = [getattr(one.measured, figure) for one in self.slices]
        middle_one = 1.0 if figure == "refused" else median(found)
        return (max(found) - min(found)) / 2 / middle_one if middle_one else 0.0

    def ratios(self, figure: str) -> list[float]:
        """Simulated over measured of each slice, but where nothing was measured."""
        both = [(getattr(one.simulated, figure), getattr(one.measured, figure)) for one in self.slices]
        return [simulated / measured for simulated, measured in both if measured > 0]

    def agrees(self, figure: str) -> bool:
        """Within 15 % in the median of slices; of what is refused 2 points will do, too."""
        points = [getattr(one.simulated, figure) - getattr(one.measured, figure) for one in self.slices]
        if figure == "refused" and abs(np.median(points)) <= _POINTS:
            return True
        return _is_near(float(np.median(self.ratios(figure) or [np.nan])))

    def medians_agree(self, figure: str) -> bool:
        """The same of the medians."""
        measured, simulated = getattr(self.measured, figure), getattr(self.simulated, figure)
        if figure == "refused" and abs(simulated - measured) <= _POINTS:
            return True
        return bool(measured) and _is_near(simulated / measured)


def is_steady(before: float, after: float) -> bool:
    """Whether the answers a second of two references are those of one speed."""
    return abs(after - before) <= _STEADY * (before + after) / 2


def _is_near(ratio: float) -> bool:
    return abs(ratio - 1) <= _WITHIN


def steady(name: str, slices: Sequence[Slice]) -> Pair:
    """Of the slices that count; where none does, of all of them, and `outside` says that."""
    kept = tuple(one for one in slices if one.is_steady)
    return Pair(name, kept or tuple(slices), len(kept), len(slices))


def whole(name: str, slices: Sequence[Slice]) -> Pair:
    """Of all slices."""
    return Pair(name, tuple(slices), sum(one.is_steady for one in slices), len(slices))


def middle(found: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(*(median(getattr(one, name) for one in found) for name in vars(found[0])))


def outside(pairs: Sequence[Pair]) -> list[str]:
    """What does not agree, a line each; and loads of which too few slices are steady to tell."""
    lines = []
    for pair in pairs:
        if pair.steady < _ENOUGH * pair.of:
            lines.append(f"{pair.name}: {pair.steady} of {pair.of} slices are steady; expected half of them")
        off = [figure for figure in _FIGURES if not pair.agrees(figure)]
        lines += [f"{pair.name}: {figure} is {_words(pair, figure)}" for figure in off]
    return lines


def _words(pair: Pair, figure: str) -> str:
    measured, simulated = getattr(pair.measured, figure), getattr(pair.simulated, figure)
    return f"{_quartiles(pair, figure)} times what is measured, {simulated:.3g} of {measured:.3g} in the medians"


def report(pairs: Sequence[Pair], everything: Sequence[Pair], shares: Sequence[float]) -> str:
    """Markdown: the slices that count, what was left out and why, and the same with it.

    shares: of the CPUs' time, those that each reference had.
    """
    medians = [f"{pair.name}, {figure}" for pair in pairs for figure in _FIGURES if not pair.medians_agree(figure)]
    said = f"By the ratio of the medians, off by more than {_WITHIN:.0%}: {'; '.join(medians) or 'nothing'}."
    had = (
        f"The {len(shares)} references had {median(shares):.0%} of the CPUs' time, and at least {min(shares):.0%}: "
        "with less than 95% others use the machine."
    )
    words = "\n\n".join(fill(line, _WIDTH) for line in (f"{_left_out(pairs)} {said}", had))
    return f"{table(pairs)}\n{words}\n\nWith all slices:\n\n{table(everything)}"


def _left_out(pairs: Sequence[Pair]) -> str:
    some = [f"{one.of - one.steady} of {one.of} at {one.name}" for one in pairs if one.steady < one.of]
    total, of = sum(one.of - one.steady for one in pairs), sum(one.of for one in pairs)
    said = f" ({'; '.join(some)})" if some else ""
    return f"Left out: {total} of {of} slices{said}, for references that differ by more than {_STEADY:.0%}."


def table(pairs: Sequence[Pair]) -> str:
    """Medians of what was measured and simulated; ratios of slices by themselves, their median and quartiles."""
    lines = [
        "| load | slices | answers/s: measured, simulated | ratio | p50, ms | ratio | p99, ms | ratio | refused "
        "| ratio | Retry-After |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        m, s = pair.measured, pair.simulated
        rate, p50, refused = (
            f" ±{spread:.0%}" if (spread := pair.spread(figure)) >= _SHOWN else ""
            for figure in ("rate_s", "p50_ms", "refused")
        )
        lines.append(
            f"| {pair.name} | {len(pair.slices)} "
            f"| {m.rate_s:.1f}{rate}, {s.rate_s:.1f} | {_ratio(pair, 'rate_s')} "
            f"| {m.p50_ms:.1f}{p50}, {s.p50_ms:.1f} | {_ratio(pair, 'p50_ms')} "
            f"| {m.p99_ms:.1f}, {s.p99_ms:.1f} | {_ratio(pair, 'p99_ms')} "
            f"| {m.refused:.1%}{refused}, {s.refused:.1%} | {_ratio(pair, 'refused')} "
            f"| {m.retry_after_s:.0f}, {s.retry_after_s:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(pair: Pair, figure: str) -> str:
    said = _quartiles(pair, figure)
    return said if pair.agrees(figure) else f"**{said}**"


def _quartiles(pair: Pair, figure: str) -> str:
    ratios = pair.ratios(figure)
    if not ratios:
        return "-"
    low, middle_one, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle_one:.2f} ({low:.2f} to {high:.2f})"
