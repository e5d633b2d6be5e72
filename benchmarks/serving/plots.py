"""Results as pictures: images/s and latency by connections, a line for the best configuration of each server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.cells import Cell
from benchmarks.serving.configurations import OURS
from benchmarks.serving.results import Figure, Results


def draw(results: Results, folder: Path) -> list[Path]:
    """A PNG a workload, above images/s, below p50 and p99; left raw bodies, right multipart."""
    workloads = dict.fromkeys(cell.workload for cell in results.cells())
    return [_draw(results, workload, folder / f"{workload.replace(' ', '-').lower()}.png") for workload in workloads]


def _draw(results: Results, workload: str, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- slow to load, needed once
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415

    bodies = sorted({cell.body for cell in results.cells() if cell.workload == workload}, reverse=True)
    drawing = Drawing(figsize=(6.5 * len(bodies), 9), layout="constrained")
    axes = drawing.subplots(2, len(bodies), squeeze=False, sharex=True, sharey="row")
    for column, body in enumerate(bodies):
        cells = [cell for cell in results.cells() if cell.workload == workload and cell.body == body]
        axes[0][column].set_title(f"{workload}, {body}")
        _draw_ceiling(results, workload, axes[0][column])
        for peer in dict.fromkeys(turn.peer for turn in results.turns):
            _draw_peer(results, peer, cells, axes[0][column], axes[1][column])
        _label(cells, axes[0][column], axes[1][column])
    FigureCanvasAgg(drawing)
    drawing.savefig(path, format="png", dpi=110)
    return path


def _draw_ceiling(results: Results, workload: str, axes: Any) -> None:
    ceiling = results.ceiling(workload)
    axes.axhline(ceiling.median, color="black", linestyle="--", linewidth=1, label="ceiling")
    axes.axhspan(min(ceiling.rounds), max(ceiling.rounds), color="black", alpha=0.08, linewidth=0)


def _draw_peer(results: Results, peer: str, cells: Sequence[Cell], above: Any, below: Any) -> None:
    """The line of the configuration that is best over most connections."""
    name = _favourite(results, peer, cells)
    if name is None:
        return
    found = [(cell.connections, figure) for cell in cells if (figure := _qualified(results, name, cell)) is not None]
    connections = [count for count, _ in found]
    width = 2.2 if peer == OURS else 1.2
    (line,) = above.plot(
        connections, [figure.images_s.median for _, figure in found], marker=".", linewidth=width, label=name
    )
    above.fill_between(
        connections,
        [min(figure.images_s.rounds) for _, figure in found],
        [max(figure.images_s.rounds) for _, figure in found],
        color=line.get_color(), alpha=0.12, linewidth=0,
    )  # fmt: skip
    for style, spreads in (("-", [f.p50_ms for _, f in found]), (":", [f.p99_ms for _, f in found])):
        medians = [spread.median for spread in spreads]
        below.plot(connections, medians, style, color=line.get_color(), marker=".", linewidth=width)


def _favourite(results: Results, peer: str, cells: Sequence[Cell]) -> str | None:
    bests = [name for cell in cells if (name := results.best(cell, [peer])) is not None]
    return max(bests, key=bests.count, default=None)


def _qualified(results: Results, name: str, cell: Cell) -> Figure | None:
    figure = results.figure(name, cell)
    return None if figure is None or figure.faults else figure


def _label(cells: Sequence[Cell], above: Any, below: Any) -> None:
    for axes in (above, below):
        axes.set_xscale("log", base=2)
        axes.set_xticks([cell.connections for cell in cells])
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.grid(visible=True, alpha=0.3)
    above.set(ylabel="images/s", ylim=(0, None))
    above.legend(fontsize="small")
    below.set(xlabel="connections", ylabel="latency in ms: p50, and p99 dotted", yscale="log")
