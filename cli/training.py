"""`mixer train`. Torch is loaded when it runs, and not before."""

import typer

from cli.terminal import bar, console, need, task_of
from model.flags import parse
from model.training.options import TrainOptions


def train(context: typer.Context) -> None:
    """Train a Mixer on DATA and write a checkpoint folder; see mixer train --help."""
    need("torch")
    options = parse(TrainOptions, context.args, "mixer train")
    from model.evaluation.evaluate import accuracy_words  # noqa: PLC0415
    from model.training.train import Watcher, summary, train_from  # noqa: PLC0415

    with bar() as progress:
        watcher = Watcher(
            on_reading=task_of(progress, "reading pictures"),
            on_step=task_of(progress, "training", each=options.chosen_recipe().batch_size),
            on_epoch=lambda report: console.print(summary(report)),
            on_note=console.print,
        )
        metrics = train_from(options, watcher).spec.metrics
    assert metrics is not None  # noqa: S101 -- training has just measured them
    words = accuracy_words(metrics.top1, metrics.num_pictures)
    typer.echo(f"{options.out}: {words} on {metrics.num_pictures} validation pictures")
