"""Findings as SVG charts, each small and the same for the same numbers. Matplotlib draws them; no display is needed."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from model.evaluation.diagrams import reliability_figure
from model.evaluation.findings import Findings
from model.evaluation.risk import RiskCoverage
from model.evaluation.robustness import Robustness, Unfamiliar

_TAG, _DIGITS = re.compile("<[^>]+>"), re.compile(r"(\d\.\d\d)\d+")  # a hundredth of a point is enough
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # under a number, so that no line crosses it


def charts_of(findings: Findings) -> dict[str, str]:
    """The charts of what was measured, by name, as SVG text that a page may hold or a file be."""
    figures = {
        "reliability": reliability_figure(findings.reliability, findings.num_pictures),
        "risk-coverage": _risk_coverage(findings.risk_coverage),
    }
    if findings.robustness is not None:
        figures["corruptions"] = _corruptions(findings.robustness)
        figures["geometry"] = _geometry(findings.robustness)
    if findings.unfamiliar:
        figures["unfamiliar"] = _unfamiliar(findings.unfamiliar)
    return {name: _svg(figure) for name, figure in figures.items()}


def _risk_coverage(curve: RiskCoverage) -> Figure:
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([100 * one for one in curve.coverage], [100 * one for one in curve.error])
    axes.fill_between([100 * one for one in curve.coverage], [100 * one for one in curve.error], alpha=0.15)
    axes.set(xlim=(0, 100), xlabel="% of the pictures kept, the surest first", ylabel="% of these that are wrong")
    axes.set_ylim(bottom=0)
    axes.set_title(f"Risk and coverage (area {curve.area:.4f})")
    axes.grid(visible=True, alpha=0.3)
    return figure


def _corruptions(robustness: Robustness) -> Figure:
    """A colored table: a row for each corruption, a column for each strength."""
    names = list(robustness.corruptions)
    shares = [[robustness.clean, *robustness.corruptions[name]] for name in names]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.pcolormesh(shares, cmap="RdYlGn", vmin=0, vmax=1, edgecolors="white", alpha=0.8)
    for row, line in enumerate(shares):
        for column, share in enumerate(line):
            axes.text(column + 0.5, row + 0.5, f"{share:.1%}", ha="center", va="center", fontsize=8)
    axes.set_xticks([column + 0.5 for column in range(6)], ["as it is", *map(str, range(1, 6))])
    axes.set_yticks([row + 0.5 for row in range(len(names))], names)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.set(xlabel="strength", title=f"Top-1 under corruptions (mean {robustness.mean_corrupted:.1%})")
    return figure


def _geometry(robustness: Robustness) -> Figure:
    figure, axes = _bars(list(robustness.geometry), [100 * share for share in robustness.geometry.values()], "%.1f %%")
    axes.axvline(100 * robustness.clean, color="grey", linestyle="--")
    axes.set(xlim=(0, 112), xlabel="%", title=f"Top-1 when moved (dashed: as it is, {robustness.clean:.1%})")
    return figure


def _unfamiliar(unfamiliar: Mapping[str, Unfamiliar]) -> Figure:
    figure, axes = _bars(list(unfamiliar), [one.auroc for one in unfamiliar.values()], "%.3f")
    axes.axvline(0.5, color="grey", linestyle="--")
    axes.set(xlim=(0, 1.12), xlabel="AUROC (dashed: chance)", title="Pictures of no class told from the data's")
    return figure


def _bars(names: Sequence[str], values: Sequence[float], number: str) -> tuple[Figure, "mpl.axes.Axes"]:
    figure = Figure(figsize=(7, 1.2 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.bar_label(axes.barh(range(len(names)), values, alpha=0.7), fmt=number, padding=3, fontsize=8, bbox=_PAPER)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    FigureCanvasSVG(figure)
    file = io.StringIO()
    with (
        mpl.rc_context(
            {
                "svg.fonttype": "none",  # text stays text
                "svg.hashsalt": "mixer",  # names of clips do not change
                "font.sans-serif": ["DejaVu Sans"],
            }
        ),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # whoever shows the text has its own fonts
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _TAG.sub(lambda tag: _DIGITS.sub(r"\1", tag[0]), file.getvalue())
