"""An evaluation as one HTML page and a table of predictions. Knows nothing of the model.

The page needs no other file and no network: diagrams and pictures are in it.
"""

import base64
import csv
import html
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.dataset import ImageSet, PixelRows
from model.data.scan import shown
from model.errors import DataError
from model.evaluation.diagrams import draw_confusion, draw_reliability
from model.evaluation.evaluate import (
    Evaluation,
    accuracy_words,
    calibration_error_by_chance,
    calibration_words,
    evaluate_logits,
    probabilities_of,
)
from model.evaluation.scores import (
    ClassScore,
    class_scores,
    confused_pairs,
    confusion_matrix,
    macro_f1,
    percent,
    worst_first,
)
from model.network.checkpoint_folder import write_atomically
from model.preprocess import Pixels

_MOST_PAIRS, _MOST_WRONG = 20, 60
_THUMBNAIL_PIXELS = 128

_STYLE = """
body { font-family: sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
td, th { padding: 0.2rem 0.8rem; text-align: right; } td:first-child, th:first-child { text-align: left; }
th { position: sticky; top: 0; background: white; }
.text td { text-align: left; } img, svg { max-width: 100%; height: auto; }
.long { max-height: 30rem; overflow: auto; display: inline-block; border: 1px solid #ccc; }
.wrong { display: flex; flex-wrap: wrap; gap: 1rem; max-height: 48rem; overflow: auto; }
figure { width: 9rem; margin: 0; font-size: 0.8rem; overflow-wrap: anywhere; } figure img { width: 8rem; }
"""


@dataclass(frozen=True)
class Answer:
    """One picture's best label. `name`: its path, or its number."""

    index: int
    name: str
    truth: str
    predicted: str
    probability: float


def write_report(
    folder: Path,
    title: str,
    labels: tuple[str, ...],
    logits: NDArray[np.float64],
    images: ImageSet,
    temperature: float,
    settings: Mapping[str, str] | None = None,
    sections: Iterable[str] = (),
) -> Path:
    """Write report.html, the two diagrams that it holds, and predictions.csv; return the page's path.

    logits: [N, K] of the pictures. settings: of the evaluation, for the page. sections: more of it, as HTML.

    Raises: DataError where the folder cannot be written.
    """
    truth, probabilities = images.labels, probabilities_of(logits, temperature)
    confusion = confusion_matrix(logits.argmax(axis=1), truth, len(labels))
    diagrams = {
        "confusion.png": draw_confusion(confusion, labels),
        "reliability.png": draw_reliability(probabilities, truth),
    }
    answers = _answers(probabilities, images, labels)
    scores = class_scores(confusion, labels)
    parts = [
        _summary(evaluate_logits(logits, truth, temperature), probabilities, scores),
        table(("setting", "value"), (settings or {}).items(), "text"),
        "<h2>Most confused</h2>",
        table(
            ("true", "predicted", "pictures", "share of the true class"),
            (
                (pair.truth, pair.predicted, pair.count, f"{pair.count / pair.num_pictures:.1%}")
                for pair in confused_pairs(confusion, labels, _MOST_PAIRS)
            ),
        ),
        _wrong_images(answers, images.pixels),
        "<h2>Classes, the worst first</h2>",
        _class_table(scores),
        *(f'<p><img alt="{name}" src="data:image/png;base64,{_base64(file)}"></p>' for name, file in diagrams.items()),
        *sections,
    ]
    files = {**diagrams, "predictions.csv": _csv(answers), "report.html": _page(title, parts).encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be written: {error}") from error
    return folder / "report.html"


def table(heads: Iterable[object], rows: Iterable[tuple[object, ...]], kind: str = "") -> str:
    """Cells as they are, escaped; "text" is a kind whose cells are aligned to the left."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return "<p>None.</p>"
    return f'<div class="long"><table class="{kind}"><tr>{head}</tr>\n{body}\n</table></div>'


def _answers(probabilities: NDArray[np.float64], images: ImageSet, labels: tuple[str, ...]) -> list[Answer]:
    best = probabilities.argmax(axis=1)
    names = [shown(path) for path in images.paths] or [f"picture {index}" for index in range(len(images))]
    return [
        Answer(i, names[i], labels[images.labels[i]], labels[best[i]], float(probabilities[i, best[i]]))
        for i in range(len(images))
    ]


def _summary(evaluation: Evaluation, probabilities: NDArray[np.float64], scores: list[ClassScore]) -> str:
    chance = calibration_error_by_chance(probabilities)
    present = sum(1 for score in scores if score.num_pictures)
    classes = f"{present} classes" if present == len(scores) else f"{present} of the {len(scores)} classes"
    return (
        f"<p>{evaluation.num_pictures} pictures of {classes}: "
        f"{accuracy_words(evaluation.top1, evaluation.num_pictures)}, "
        f"top-5 {evaluation.top5:.2%}, mean F1 {macro_f1(scores):.1%}, "
        f"loss {evaluation.loss:.4f}, expected "
        f"{calibration_words(evaluation.calibration_error, chance, evaluation.num_pictures)}.</p>"
    )


def _class_table(scores: list[ClassScore]) -> str:
    rows = (
        (score.label, score.num_pictures, percent(score.precision), percent(score.recall), percent(score.f1))
        for score in worst_first(scores)
    )
    absent = [score.label for score in scores if not score.num_pictures]
    some = html.escape(", ".join(absent[:_MOST_PAIRS]) + (", ..." if len(absent) > _MOST_PAIRS else ""))
    more = f"<p>{len(absent)} without a picture here: {some}</p>" if absent else ""
    return table(("class", "pictures", "precision", "recall", "F1"), rows) + more


def _wrong_images(answers: list[Answer], pixels: PixelRows) -> str:
    """Mistakes, the most probable first."""
    wrong = sorted((one for one in answers if one.truth != one.predicted), key=lambda one: -one.probability)
    figures = "\n".join(
        f'<figure><img alt="" src="data:image/jpeg;base64,{_thumbnail(pixels[one.index])}">'
        f"<figcaption>{html.escape(one.predicted)} {one.probability:.1%}, not {html.escape(one.truth)}<br>"
        f"{html.escape(one.name)}</figcaption></figure>"
        for one in wrong[:_MOST_WRONG]
    )
    which = (
        f"{len(wrong)}, the surest first" if len(wrong) <= _MOST_WRONG else f"the {_MOST_WRONG} surest of {len(wrong)}"
    )
    return f'<h2>Wrong pictures: {which}</h2>\n<div class="wrong">{figures}</div>'


def _thumbnail(pixels: Pixels) -> str:
    """A picture as the network sees it."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return _base64(file.getvalue())


def _csv(answers: list[Answer]) -> bytes:
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(("picture", "true", "predicted", "probability"))
    table.writerows((one.name, one.truth, one.predicted, f"{one.probability:.6f}") for one in answers)
    return file.getvalue().encode()


def _page(title: str, parts: Iterable[str]) -> str:
    name = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f"<style>{_STYLE}</style></head><body>\n<h1>{name}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
