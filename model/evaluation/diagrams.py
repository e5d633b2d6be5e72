"""Confusion and calibration as PNG files. Matplotlib draws them; no display is needed."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model.evaluation.evaluate import ReliabilityBin, reliability
from model.evaluation.scores import most_confused

_MOST_NAMED = 40  # names of more classes do not fit an axis
_MOST_LETTERS = 30


def draw_confusion(confusion: NDArray[np.int64], labels: tuple[str, ...]) -> bytes:
    """A PNG of the counts [K, K]: of the classes that occur, or of the most confused ones."""
    present = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    chosen = present[most_confused(confusion[np.ix_(present, present)], _MOST_NAMED)]
    shares = (confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1))[np.ix_(chosen, chosen)]
    names = [_shortened(labels[index]) for index in chosen]
    size = min(13.0, 3 + 0.5 * len(chosen))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    among = "" if len(chosen) == len(present) else f", the {len(chosen)} classes of {len(present)} confused most"
    axes.set(xlabel="predicted", ylabel="true", title=f"Confusion: share of each true class{among}")
    axes.set_xticks(range(len(chosen)), names, rotation=90, parse_math=False)
    axes.set_yticks(range(len(chosen)), names, parse_math=False)
    for row, column in np.argwhere(shares):
        color = "white" if shares[row, column] > 0.5 else "black"
        count = str(confusion[chosen[row], chosen[column]])
        axes.text(column, row, count, ha="center", va="center", color=color, fontsize=7)
    return _png(figure)


def draw_reliability(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> bytes:
    """A PNG of how often the best label is right, by its probability. probabilities: [N, K]; truth: [N]."""
    return _png(reliability_figure(reliability(probabilities, truth), len(truth)))


def reliability_figure(bins: Sequence[ReliabilityBin], num_pictures: int) -> Figure:
    """How often the best label is right, by its probability, and how many of the pictures are in each bin."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    axes.plot([one.confidence for one in bins], [one.accuracy for one in bins], marker="o", label="this classifier")
    axes.bar(
        [one.confidence for one in bins],
        [one.num_pictures / num_pictures for one in bins],
        width=0.03,
        alpha=0.3,
        label="share of the pictures",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the best label", ylabel="share that is right")
    axes.set_title("Reliability")
    axes.legend(loc="upper left")
    return figure


def _shortened(label: str) -> str:
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 3]}..."


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it
        figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
