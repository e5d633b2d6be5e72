"""Outcomes over time as pictures: what came, what was answered in time, and how many pods there were."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet.cluster import Outcome

_SMOOTH_S = 5


def draw(title: str, outcomes: Sequence[Outcome], path: Path, names: Sequence[str] = ()) -> None:
    """A PNG: calls that came and good ones above, pods below; of all outcomes, or those with these names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- slow to load, needed once
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415

    chosen = [one for one in outcomes if not names or one.scenario.name in names]
    drawing = Drawing(figsize=(8, 6), layout="constrained")
    above, below = drawing.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    above.set_title(title, fontsize="medium")
    _draw_rates(above, chosen)
    for outcome in chosen:
        below.step(range(len(outcome.pods)), outcome.pods, where="post", linewidth=1.2)
    below.set(xlabel="s", ylabel="pods", ylim=(0, None))
    below.grid(visible=True, alpha=0.3)
    FigureCanvasAgg(drawing)
    drawing.savefig(path, format="png", dpi=80)


def _draw_rates(axes: Any, outcomes: Sequence[Outcome]) -> None:
    for number, outcome in enumerate(outcomes):
        offered, good = outcome.ledger.by_second(outcome.scenario.seconds - 1)
        if number == 0:
            axes.plot(_smooth(offered), color="black", linestyle=":", label="calls that came")
        axes.plot(_smooth(good), linewidth=1.2, label=f"in time: {outcome.scenario.name}")
    axes.set(ylabel="calls/s", ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="x-small")


def _smooth(counts: Sequence[int]) -> Any:
    return np.convolve(counts, np.ones(_SMOOTH_S) / _SMOOTH_S, mode="valid")


def draw_validation(pairs: Sequence[Any], path: Path) -> None:
    """Measured and simulated side by side: rates, and medians."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415

    drawing = Drawing(figsize=(8, 6), layout="constrained")
    for axes, field, words in zip(
        drawing.subplots(3, 1, sharex=True), ("rate_s", "p50_ms", "p99_ms"), ("answers/s", "p50, ms", "p99, ms"),
        strict=True,
    ):  # fmt: skip
        places = np.arange(len(pairs))
        axes.bar(places - 0.2, [getattr(pair.measured, field) for pair in pairs], 0.4, label="measured")
        axes.bar(places + 0.2, [getattr(pair.simulated, field) for pair in pairs], 0.4, label="simulated")
        axes.set_ylabel(words)
        axes.grid(visible=True, axis="y", alpha=0.3)
        axes.set_xticks(places, [pair.name for pair in pairs], fontsize="small")
    axes.legend(fontsize="small")
    FigureCanvasAgg(drawing)
    drawing.savefig(path, format="png", dpi=80)
