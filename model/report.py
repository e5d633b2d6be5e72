"""How a classifier did, class by class, as pictures and one HTML page. Knows nothing of what ran it.

Matplotlib draws to files; no display is needed.
"""

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model.checkpoint import write_atomically
from model.errors import DataError
from model.evaluate import Evaluation, evaluate_logits, probabilities_of, reliability

_MOST_NAMED = 40  # beyond this many classes their names no longer fit an axis


@dataclass(frozen=True)
class ClassScore:
    """One class: how many pictures it has, and the fractions in [0, 1]; nan where there is nothing to divide by."""

    label: str
    num_pictures: int
    precision: float
    recall: float


def confusion_matrix(predicted: NDArray[np.intp], truth: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Counts [K, K]: a row for each true class, a column for each predicted one."""
    counts = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def class_scores(confusion: NDArray[np.int64], labels: tuple[str, ...]) -> list[ClassScore]:
    """Precision and recall of every class."""
    with np.errstate(invalid="ignore"):
        precision = np.diag(confusion) / confusion.sum(axis=0)
        recall = np.diag(confusion) / confusion.sum(axis=1)
    pictures = confusion.sum(axis=1)
    return [
        ClassScore(label, int(pictures[index]), float(precision[index]), float(recall[index]))
        for index, label in enumerate(labels)
    ]


def write_report(
    folder: Path,
    title: str,
    labels: tuple[str, ...],
    logits: NDArray[np.float64],
    truth: NDArray[np.int64],
    temperature: float,
) -> Path:
    """Write confusion.png, reliability.png and report.html, which holds both, and return the page's path.

    logits: [N, K]; truth: [N]. Raises: DataError where the folder cannot be written.
    """
    confusion = confusion_matrix(logits.argmax(axis=1), truth, len(labels))
    pictures = {
        "confusion.png": _png(_draw_confusion(confusion, labels)),
        "reliability.png": _png(_draw_reliability(probabilities_of(logits, temperature), truth)),
    }
    page = _page(title, evaluate_logits(logits, truth, temperature), class_scores(confusion, labels), pictures)
    files = {**pictures, "report.html": page.encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from error
    return folder / "report.html"


def _draw_confusion(confusion: NDArray[np.int64], labels: tuple[str, ...]) -> Figure:
    size = min(12.0, 3 + 0.5 * len(labels))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title="Confusion: share of each true class")
    if len(labels) <= _MOST_NAMED:
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        for row, column in np.argwhere(confusion):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=7)
    return figure


def _draw_reliability(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    bins = reliability(probabilities, truth)
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    axes.plot([one.confidence for one in bins], [one.accuracy for one in bins], marker="o", label="this classifier")
    axes.bar(
        [one.confidence for one in bins],
        [one.num_pictures / len(truth) for one in bins],
        width=0.03,
        alpha=0.3,
        label="share of the pictures",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the best label", ylabel="share that is right")
    axes.set_title("Reliability")
    axes.legend(loc="upper left")
    return figure


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def _page(title: str, evaluation: Evaluation, scores: list[ClassScore], pictures: dict[str, bytes]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(score.label)}</td><td>{score.num_pictures}</td>"
        f"<td>{_percent(score.precision)}</td><td>{_percent(score.recall)}</td></tr>\n"
        for score in scores
    )
    images = "".join(
        f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(content).decode()}">\n'
        for name, content in pictures.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>
body {{ font-family: sans-serif; max-width: 60rem; margin: 2rem auto; }}
td, th {{ padding: 0.2rem 0.8rem; text-align: right; }} td:first-child, th:first-child {{ text-align: left; }}
img {{ max-width: 100%; }}
</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{evaluation.num_pictures} pictures: top-1 {evaluation.top1:.2%}, top-5 {evaluation.top5:.2%},
loss {evaluation.loss:.4f}, expected calibration error {evaluation.calibration_error:.4f}.</p>
<table><tr><th>class</th><th>pictures</th><th>precision</th><th>recall</th></tr>
{rows}</table>
{images}</body></html>
"""


def _percent(fraction: float) -> str:
    return "n/a" if np.isnan(fraction) else f"{fraction:.1%}"
