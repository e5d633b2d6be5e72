"""`mixer train DATA --freeze`: told as it goes, and its bundle. Torch is loaded when it runs, and not before."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.learn.publishing import publish_run, serve_line, wants_bundle
from cli.learn.telling import tell_choices, tell_findings
from cli.terminal import bar, command_line, console, task_of
from model.training.options import TrainOptions

if TYPE_CHECKING:
    from export.bundle import ExportData
    from model.heads.freeze import Learned

_NUM_CALIBRATION = 128  # pictures whose activations give int8 its scales


def freeze(options: TrainOptions) -> None:
    """Train a head, write checkpoint and bundle, and print what comes next."""
    from model.heads.freeze import freeze_from  # noqa: PLC0415
    from model.training.run_config import TrainCallbacks  # noqa: PLC0415

    with bar() as progress:
        learned = freeze_from(
            options,
            TrainCallbacks(
                on_download=task_of(progress, f"downloading {options.init}"),
                on_reading=task_of(progress, "embedding pictures"),
                on_note=console.print,
                on_choices=tell_choices,
                on_findings=tell_findings,
            ),
        )
    for line in result_lines(options, learned):
        typer.echo(line)
    bundle = publish_run(options.out, options, _export_data(learned, options)) if wants_bundle(options) else None
    if bundle is None:
        typer.echo(f"next:\n  {command_line('export', options.out, 'bundles/' + options.out.resolve().name)}")
    else:
        typer.echo(f"next:\n  {serve_line(bundle)}")
    if not options.add:  # else DATA has some of the classes only
        unfrozen = command_line("train", options.data, "--init", options.out, "--unfreeze")
        typer.echo(f"or, to train all weights from here:\n  {unfrozen}")


def result_lines(options: TrainOptions, learned: "Learned") -> list[str]:
    """How good the head is, and on what."""
    from model.evaluation.evaluate import accuracy_words  # noqa: PLC0415

    judged = learned.judged
    lines = [
        f"{options.out}: {accuracy_words(one.top1, one.num_pictures)} on {one.num_pictures} pictures, {by}"
        for one, by in ((judged.evaluation, judged.judged_by), (judged.on_val, "validation split"))
    ]
    return lines[:1] if judged.on_val.num_pictures == judged.evaluation.num_pictures else lines


def _export_data(learned: "Learned", options: TrainOptions) -> "ExportData":
    """DATA's validation pictures prove the graphs and measure them; training pictures give int8 its scales."""
    import numpy as np  # noqa: PLC0415

    from export.bundle import ExportData, generated_images  # noqa: PLC0415
    from model.data.dataset import ImageSet  # noqa: PLC0415
    from model.heads.freeze import pixels_of  # noqa: PLC0415
    from model.heads.pictures import evenly  # noqa: PLC0415

    spec, pictures = learned.checkpoint.spec, learned.pictures
    calibration, _ = pixels_of(evenly(pictures.train, _NUM_CALIBRATION))
    judging, judged = pixels_of(pictures.val)
    if judging is None:
        return ExportData(generated_images(spec) if calibration is None else calibration, calibration)
    labels = np.array([spec.labels.index(pictures.labels[picture.label]) for picture in judged], dtype=np.int64)
    name = _name_of_judged(options.data, len(set(labels.tolist())), spec.num_classes)
    return ExportData(judging, calibration, (name, ImageSet(judging, labels)))


def _name_of_judged(data: Path, num_judged: int, num_classes: int) -> str:
    """What the validation pictures are called by figures and card; with --add they are of some classes only."""
    some = "" if num_judged == num_classes else f", {num_judged} of {num_classes} classes"
    return f"{data.resolve().name}, validation{some}"
