"""What was measured and what was simulated, slice by slice: whether they agree, and tables of it. Measures nothing.

Which slices count was fixed before any was looked at: those whose two references differ by 8 % at most, as one speed is
simulated for all of a slice. The compared figures of a load are the medians of these slices' figures, measured and
simulated, and their ratio is the verdict. A slice is simulated with its own speed and its own arrivals, so that what
sets slices apart is in both medians.

The median of the slices' own ratios is told beside it, with quartiles. It varies less, and says how far one slice can
be trusted; but a slice with nothing refused has no ratio there, and half of the slices may be off by any factor without
moving it. It is no verdict: what is claimed is that the figures of a load are simulated, and these are the medians.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.fleet.observed import Figures

_WITHIN = 0.15
_POINTS = 0.02
_STEADY = 0.08  # of their mean: how much the references around a slice may differ
_ENOUGH = 0.5  # of a load's slices have to be steady
_SHOWN = 0.005  # a spread that is not 0 % in words


@dataclass(frozen=True)
class Slice:
    """Some seconds of one load. `references`: answers a second right before it, and right after."""

    measured: Figures
    simulated: Figures
    references: tuple[float, float]

    @property
    def drift(self) -> float:
        """How much the references differ, as a share of their mean."""
        before, after = self.references
        return abs(after - before) / ((before + after) / 2)

    @property
    def is_steady(self) -> bool:
        """Whether the machine was as fast after it as before."""
        return self.drift <= _STEADY


@dataclass(frozen=True)
class Pair:
    """One load: what was measured, and what the simulation says; medians of `slices`, which are `of` so many."""

    name: str
    measured: Figures
    simulated: Figures
    slices: tuple[Slice, ...] = ()
    of: int = 0

    def spread(self, figure: str) -> float:
        """Half the distance from the least to the most that was measured; of rates and times a share of the median."""
        found = [getattr(one.measured, figure) for one in self.slices]
        half = (max(found) - min(found)) / 2 if found else 0.0
        middle_one = 1.0 if figure == "refused" else getattr(self.measured, figure)
        return half / middle_one if middle_one else 0.0

    def ratios(self, figure: str) -> list[float]:
        """Simulated over measured of each slice, but where nothing was measured."""
        both = [(getattr(one.simulated, figure), getattr(one.measured, figure)) for one in self.slices]
        return [simulated / measured for simulated, measured in both if measured > 0]


def steady(name: str, slices: Sequence[Slice]) -> Pair:
    """Of the slices that count; where none does, of all of them, which `outside` says."""
    kept = [one for one in slices if one.is_steady]
    return _pair(name, kept or slices, len(slices), kept)


def whole(name: str, slices: Sequence[Slice]) -> Pair:
    """Of all slices."""
    return _pair(name, slices, len(slices), slices)


def _pair(name: str, shown: Sequence[Slice], of: int, kept: Sequence[Slice]) -> Pair:
    return Pair(
        name, middle([one.measured for one in shown]), middle([one.simulated for one in shown]), tuple(kept), of
    )


def middle(found: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(*(median(getattr(one, name) for one in found) for name in vars(found[0])))


def outside(pairs: Sequence[Pair]) -> list[str]:
    """What does not agree within 15 %: a line each. Of what is refused, 2 points are agreement, too."""
    lines = []
    for pair in pairs:
        if len(pair.slices) < _ENOUGH * pair.of:
            lines.append(f"{pair.name}: {len(pair.slices)} of {pair.of} slices are steady; expected half of them")
        for figure in ("rate_s", "p50_ms", "p99_ms", "refused"):
            measured, simulated = getattr(pair.measured, figure), getattr(pair.simulated, figure)
            near = figure == "refused" and abs(simulated - measured) <= _POINTS
            if not near and not abs(simulated - measured) <= _WITHIN * measured:
                lines.append(f"{pair.name}: {figure} is {measured:.3g} measured, {simulated:.3g} simulated")
    return lines


def report(pairs: Sequence[Pair], everything: Sequence[Pair]) -> str:
    """Markdown: the slices that count, what was left out, and the same with it."""
    left_out = [f"{one.of - len(one.slices)} of {one.of} at {one.name}" for one in pairs if len(one.slices) < one.of]
    total, all_of = sum(one.of - len(one.slices) for one in pairs), sum(one.of for one in pairs)
    said = f" ({'; '.join(left_out)})" if left_out else ""
    return (
        f"{table(pairs)}\nLeft out: {total} of {all_of} slices{said}, as their references differ by more than "
        f"{_STEADY:.0%}.\nSimulated over measured by slice, its median and quartiles:\n\n{ratios_table(pairs)}"
        f"\nWith all slices:\n\n{table(everything)}"
    )


def table(pairs: Sequence[Pair]) -> str:
    """Medians."""
    lines = [
        "| load | slices | answers/s: measured, simulated | ratio | p50, ms | ratio | p99, ms | ratio | refused "
        "| Retry-After |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        m, s = pair.measured, pair.simulated
        rate, p50, refused = (
            f" ±{spread:.0%}" if (spread := pair.spread(figure)) >= _SHOWN else ""
            for figure in ("rate_s", "p50_ms", "refused")
        )
        lines.append(
            f"| {pair.name} | {len(pair.slices)} "
            f"| {m.rate_s:.1f}{rate}, {s.rate_s:.1f} | {_ratio(m.rate_s, s.rate_s)} "
            f"| {m.p50_ms:.1f}{p50}, {s.p50_ms:.1f} | {_ratio(m.p50_ms, s.p50_ms)} "
            f"| {m.p99_ms:.1f}, {s.p99_ms:.1f} | {_ratio(m.p99_ms, s.p99_ms)} "
            f"| {m.refused:.1%}{refused}, {s.refused:.1%} | {m.retry_after_s:.0f}, {s.retry_after_s:.0f} |"
        )
    return "\n".join(lines) + "\n"


def ratios_table(pairs: Sequence[Pair]) -> str:
    """Of each slice by itself."""
    lines = ["| load | answers/s | p50 | p99 | refused |", "|---|---|---|---|---|"]
    for pair in pairs:
        cells = [_quartiles(pair.ratios(figure)) for figure in ("rate_s", "p50_ms", "p99_ms", "refused")]
        lines.append(f"| {pair.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _quartiles(ratios: Sequence[float]) -> str:
    if not ratios:
        return "-"
    low, middle_one, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle_one:.2f} ({low:.2f} to {high:.2f})"


def _ratio(measured: float, simulated: float) -> str:
    ratio = simulated / measured if measured else float("nan")
    return f"{ratio:.2f}" if abs(ratio - 1) <= _WITHIN else f"**{ratio:.2f}**"
