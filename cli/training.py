"""`mixer train`. Torch is loaded when it runs, and not before."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.learn.freezing import freeze
from cli.learn.publishing import publish_trained, serve_line, wants_bundle
from cli.learn.telling import tell_choices, tell_findings
from cli.terminal import bar, command_line, console, require_extra, task_of
from model.errors import TrainingStopped
from model.flags import parse
from model.network.run_folder import BEST, RESUME, Judged, best_and_last, better
from model.stopping import StopNow, StopSignals, stop_signals
from model.training.options import TrainOptions

if TYPE_CHECKING:
    from model.data.dataset import Dataset

_BUNDLES = Path("bundles")


def train(context: typer.Context) -> None:
    """Train a Mixer on DATA and write a checkpoint folder; see mixer train --help."""
    require_extra("torch")
    options = parse(TrainOptions, context.args, "mixer train")
    from model.training.start.choices import with_start  # noqa: PLC0415

    options = with_start(options)
    if options.freeze:
        freeze(options)
        return
    datasets: list[Dataset] = []
    with stop_signals() as signals:
        try:
            _train(options, signals, datasets.append)
        except (TrainingStopped, StopNow) as stopped:
            _print_stopped(stopped, options.out, context.args)
            sys.exit(signals.exit_code)
    bundle = publish_trained(options, datasets[-1]) if wants_bundle(options) else None
    for line in end_lines(options.out, options.data, bundle):
        typer.echo(line)


def _train(options: TrainOptions, signals: StopSignals, on_dataset: "Callable[[Dataset], None]") -> None:
    from model.training.run_config import TrainCallbacks  # noqa: PLC0415
    from model.training.train import train_from  # noqa: PLC0415

    steps: list[Callable[[int, int], None]] = []

    def on_step(step: int, total: int) -> None:
        steps[-1](step, total)

    with bar() as progress:
        callbacks = TrainCallbacks(
            on_download=task_of(progress, f"downloading {options.init}"),
            on_reading=task_of(progress, "reading pictures"),
            on_recipe=lambda recipe: steps.append(task_of(progress, "training", each=recipe.batch_size)),
            on_step=on_step,
            on_epoch=lambda report: console.print(str(report)),
            on_note=console.print,
            on_choices=tell_choices,
            on_findings=tell_findings,
            on_dataset=on_dataset,
            should_stop=signals.came,
            stoppable=signals.waiting,
        )
        train_from(options, callbacks)


def _print_stopped(stopped: BaseException, out: Path, flags: Sequence[str]) -> None:
    """What is saved, and the command that goes on from there."""
    if isinstance(stopped, TrainingStopped):
        console.print(f"{stopped}.")
    elif (out / RESUME).exists():
        console.print(f"stopped at once; {out / RESUME} holds what was saved last.")
    else:
        console.print(f"stopped before training began; nothing is saved in {out}.")
    best = out / BEST
    if best.is_dir():
        console.print(f"{best} is the epoch that has done best until now.")
    console.print(f"To go on, give the same command again:\n  {command_line('train', *flags)}")


def end_lines(out: Path, data: Path, written: Path | None = None) -> list[str]:
    """Both checkpoints of the run in `out` with their accuracies, and the commands that come next.

    written: the bundle, where there is one already.
    """
    from model.evaluation.evaluate import accuracy_words  # noqa: PLC0415

    def line(words: str, judged: Judged) -> str:
        accuracy = accuracy_words(judged.top1, judged.num_pictures)
        return f"{judged.folder}: {words} {judged.epoch}, {accuracy} on {judged.num_pictures} validation pictures"

    both = best_and_last(out)
    assert both is not None  # noqa: S101 -- training has just written them
    best, last = both
    lines = [line("last epoch", last)]
    if better(out) == best.folder:
        lines += [
            line("best epoch", best),
            "mixer export and mixer evaluate take the best epoch's weights; --weights last takes the last",
        ]
    if written is not None:
        return [*lines, "next:", f"  {serve_line(written)}"]
    bundle = _new_bundle(out.resolve().name)
    commands = (("export", out, bundle, "--data", data), ("serve", bundle))
    return [*lines, "next:", *(f"  {command_line(*words)}" for words in commands)]


def _new_bundle(name: str) -> Path:
    """A folder that is not there yet, so that no other bundle is replaced."""
    paths = (_BUNDLES / (name if number == 1 else f"{name}-{number}") for number in range(1, 1000))
    return next(path for path in paths if not path.exists())
