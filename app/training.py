"""`mixer train`, and pictures read under a progress bar. Torch is loaded when it runs, and not before."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from app.terminal import bar, console, need, report_skipped, task_of
from model.flags import parse
from model.options import TrainOptions
from model.recipe import Recipe

if TYPE_CHECKING:
    from model.data import Dataset, Picturing


def train(context: typer.Context) -> None:
    """Train a Mixer on DATA and write a checkpoint folder; see mixer train --help."""
    need("torch")
    options = parse(TrainOptions, context.args, "mixer train")
    from model.train import Watcher, summary, train_from  # noqa: PLC0415

    with bar() as progress:
        watcher = Watcher(
            on_reading=task_of(progress, "reading pictures"),
            on_step=task_of(progress, "training", each=options.chosen_recipe().batch_size),
            on_epoch=lambda report: console.print(summary(report)),
            on_note=console.print,
        )
        metrics = train_from(options, watcher).spec.metrics
    assert metrics is not None  # noqa: S101 -- training has just measured them
    typer.echo(f"{options.out}: top-1 {metrics.top1:.2%} on {metrics.num_pictures} validation pictures")


def load_pictures(data: Path, picturing: "Picturing", recipe: Recipe, labels: tuple[str, ...] | None) -> "Dataset":
    """DATA under a progress bar, split as the recipe says; pictures that cannot be read are named. Raises DataError."""
    from model.data import load  # noqa: PLC0415

    with bar() as progress:
        dataset = load(
            data,
            picturing,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            labels=labels,
            progress=task_of(progress, "reading pictures"),
        )
    report_skipped(dataset.skipped)
    return dataset
