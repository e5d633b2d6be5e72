"""Loads as a picture: what comes back, and how soon, by what is offered."""

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.overload.results import Results


def draw(results: Results, folder: Path) -> list[Path]:
    """A PNG a workload: goodput above, times below."""
    return [
        _draw(results, workload, folder / f"overload-{workload.replace(' ', '-').lower()}.png")
        for workload in results.workloads()
    ]


def _draw(results: Results, workload: str, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- slow to load, needed once
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415

    drawing = Drawing(figsize=(7, 8), layout="constrained")
    above, below = drawing.subplots(2, 1, sharex=True)
    above.set_title(f"{workload}, deadline {results.deadlines_ms[workload]:g} ms")
    _draw_rates(results, workload, above)
    _draw_times(results, workload, below)
    FigureCanvasAgg(drawing)
    drawing.savefig(path, format="png", dpi=110)
    return path


def _draw_rates(results: Results, workload: str, axes: Any) -> None:
    multiples = results.multiples(workload)
    loads = [results.loads(workload, times) for times in multiples]
    for name, rate in (("offered", "offered_s"), ("accepted", "accepted_s"), ("goodput", "goodput_s")):
        medians = [median(getattr(load, rate) for load in one) for one in loads]
        style = ":" if name == "offered" else "--" if name == "accepted" else "-"
        axes.plot(multiples, medians, style, marker=".", label=name)
    peak = median(one.peak_s for one in results.of(workload))
    axes.axhline(peak, color="black", linewidth=1, linestyle="--", label="peak")
    axes.set(ylabel="requests/s", ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")


def _draw_times(results: Results, workload: str, axes: Any) -> None:
    multiples = results.multiples(workload)
    for name, group, percentile in (
        ("accepted, p50", "accepted", "p50_ms"),
        ("accepted, p99", "accepted", "p99_ms"),
        ("refused, p50", "refused", "p50_ms"),
        ("refused, p99", "refused", "p99_ms"),
    ):
        medians = [
            median(getattr(getattr(load, group), percentile) for load in results.loads(workload, times))
            for times in multiples
        ]
        axes.plot(multiples, medians, ":" if percentile == "p99_ms" else "-", marker=".", label=name)
    axes.axhline(results.deadlines_ms[workload], color="black", linewidth=1, linestyle="--", label="deadline")
    axes.set(xlabel="load, in multiples of the capacity", ylabel="ms from when it was due", yscale="log")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
