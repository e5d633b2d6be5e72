"""Everything that is found out about a model on labelled pictures: measured under progress bars, and shown.

Knows nothing of where the model and the pictures came from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.terminal import bar, console, task_of
from model.errors import CheckpointError, DataError
from model.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.data.dataset import ImageSet
    from model.evaluation.evaluate import Logits
    from model.evaluation.findings import Findings
    from model.evaluation.robustness import Robustness
    from model.preprocess import Pixels

AT_ONCE = 64  # pictures in one run of an evaluation
MOST_PICTURES = 2000
_MOST_UNFAMILIAR = 500  # of each kind that is made

PicturesOption = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="At most so many of DATA's pictures, evenly spaced, are also changed."),
]
UnfamiliarOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Pictures of none of the classes, in any folders: how well the model's scores tell them from DATA's.",
    ),
]


@dataclass(frozen=True)
class Beyond:
    """What to find out beyond accuracy. unfamiliar: a folder of pictures of no class; most: how many are changed."""

    robustness: bool = False
    unfamiliar: Path | None = None
    most: int = MOST_PICTURES
    seed: int = 0


def judge(
    run: "Callable[[Pixels], Logits]", spec: ModelSpec, name: str, images: "ImageSet", beyond: Beyond
) -> "tuple[NDArray[np.float64], Findings]":
    """The logits of all pictures of the data set `name`, and what they and changed pictures tell.

    run: the model, uint8 [n, H, W, C] to float32 [n, K].

    Raises: DataError; CheckpointError where a logit is not a finite number.
    """
    from model.evaluation.evaluate import all_logits  # noqa: PLC0415
    from model.evaluation.findings import findings_of  # noqa: PLC0415
    from model.evaluation.robustness import evenly, measure_robustness, measure_unfamiliar  # noqa: PLC0415

    folder, logits_of = beyond.unfamiliar, partial(_finite_logits, run, spec)
    others = {} if folder is None else {f"{folder.resolve().name}/": _pixels_of(folder, spec, beyond.most)}
    robustness = unfamiliar = None
    with bar() as progress:
        judging = task_of(progress, "judging pictures")
        logits = all_logits(logits_of, images, batch_size=AT_ONCE, progress=judging)
        if beyond.robustness:
            changing = task_of(progress, "changing pictures", each=min(beyond.most, len(images)))
            some = evenly(images, beyond.most)
            robustness = measure_robustness(logits_of, some, spec, seed=beyond.seed, progress=changing)
        if beyond.robustness or others:
            telling = task_of(progress, "pictures of no class")
            most = min(_MOST_UNFAMILIAR, beyond.most)
            unfamiliar = measure_unfamiliar(
                logits_of, logits, spec, others, num_generated=most, seed=beyond.seed, progress=telling
            )
    return logits, findings_of(
        name,
        logits,
        images.labels,
        spec.labels,
        spec.temperature,
        has_calibrated=_has_calibrated(spec, name, len(images)),
        robustness=robustness,
        unfamiliar=unfamiliar,
    )


def _has_calibrated(spec: ModelSpec, name: str, count: int) -> bool:
    """Whether the model was calibrated with this data set, by its name and its size."""
    return spec.conformal is not None and (spec.conformal.data_set, spec.conformal.num_pictures) == (name, count)


def _finite_logits(run: "Callable[[Pixels], Logits]", spec: ModelSpec, pixels: "Pixels") -> "Logits":
    """What the model says of some pictures. Raises CheckpointError: the service has no answer to give there either."""
    from model.evaluation.evaluate import expect_finite  # noqa: PLC0415

    logits = run(pixels)
    try:
        expect_finite(logits)
    except ArithmeticError as error:
        raise CheckpointError(f"{spec.name} cannot be judged: {error}") from error
    return logits


def _pixels_of(folder: Path, spec: ModelSpec, most: int) -> "Pixels":
    """At most so many pictures of a folder and those in it, evenly spaced. Raises DataError where there is none."""
    import numpy as np  # noqa: PLC0415

    from model.data.dataset import PreprocessConfig, evenly_spaced, read_pixels  # noqa: PLC0415
    from model.data.pillow_warnings import collected_warnings  # noqa: PLC0415
    from model.data.scan import scan, shown  # noqa: PLC0415

    files = scan(folder).images
    config = PreprocessConfig(spec.image_size, spec.channels, spec.fit, spec.interpolation)
    read = []
    with collected_warnings() as warnings:
        for row in evenly_spaced(len(files), most):
            try:
                with warnings.reading(files[row].path):
                    read.append(read_pixels(files[row].path, config))
            except DataError as error:
                console.print(f"passed over: {error}")
    for line in warnings.lines():
        console.print(line)
    if not read:
        raise DataError(f"{shown(folder)} has no readable picture; expected some of none of the classes.")
    return np.stack(read)


def print_findings(findings: "Findings", title: str) -> None:
    """Tables: accuracy, and what was measured beyond it."""
    low, high = findings.top1_interval
    table = _table(title, ("pictures", "top-1", "95 % interval", "top-5", "loss", "calibration error"))
    table.add_row(
        str(findings.num_pictures),
        f"{findings.top1:.2%}",
        f"{low:.1%} to {high:.1%}",
        f"{findings.top5:.2%}",
        f"{findings.loss:.4f}",
        f"{findings.calibration_error:.4f}",
    )
    table.caption = findings.calibration_words
    if findings.cross_validated is not None:
        crossed = findings.cross_validated
        table.caption += (
            f". By name and number it was calibrated with these pictures; on those left out of a fit: {crossed}"
        )
    tables = [table]
    if findings.robustness is not None:
        tables += _robustness_tables(findings.robustness)
    if findings.unfamiliar is not None:
        told = _table("Out of distribution", ("", "number", "AUROC"))
        for name, one in findings.unfamiliar.items():
            told.add_row(name, str(one.num_pictures), f"{one.auroc:.3f}")
        told.caption = f"AURC of the data: {findings.risk_coverage.area:.4f}"
        tables.append(told)
    for one_table in tables:
        Console(width=100).print(one_table)


def _robustness_tables(robustness: "Robustness") -> list[Table]:
    corruptions = _table(
        f"Top-1 in % on {robustness.num_pictures} pictures, by strength", ("corruption", "clean", *"12345", "mean")
    )
    for name, shares in robustness.corruptions.items():
        cells = (robustness.clean, *shares, sum(shares) / len(shares))
        corruptions.add_row(name, *(f"{100 * share:.1f}" for share in cells))
    corruptions.add_section()
    corruptions.add_row("mean", *[""] * 6, f"{100 * robustness.mean_corrupted:.1f}")
    moved = _table("Top-1 in %, moved", ("", "top-1"))
    for name, share in robustness.geometry.items():
        moved.add_row(name, f"{100 * share:.1f}")
    return [corruptions, moved]


def _table(title: str, columns: tuple[str, ...]) -> Table:
    """Numbers to the right; so is the first column where it is one."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 and column != "pictures" else "right")
    return table
