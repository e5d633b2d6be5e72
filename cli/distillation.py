"""`mixer lessons` and `mixer distil`. Torch is loaded when one of them runs, and not before."""

import sys

import typer

from cli.terminal import bar, command_line, console, require_extra, task_of
from model.distillation.options import DistilOptions, LessonOptions
from model.errors import TrainingStopped
from model.flags import parse
from model.stopping import StopNow, stop_signals


def lessons(context: typer.Context) -> None:
    """Write what a large network sees in varied views of DATA; see mixer lessons --help."""
    require_extra("torch")
    options = parse(LessonOptions, context.args, "mixer lessons")
    from model.distillation.prepare import prepare  # noqa: PLC0415

    with bar() as progress:
        prepare(
            options,
            console.print,
            task_of(progress, "reading pictures"),
            task_of(progress, "writing lessons"),
            task_of(progress, "fine-tuning the teacher"),
        )
    typer.echo("next:\n  " + command_line("distil", options.lessons, options.data, "--out", "checkpoints/mine"))


def distil(context: typer.Context) -> None:
    """Train a Mixer on LESSONS and write a checkpoint folder; see mixer distil --help."""
    require_extra("torch")
    options = parse(DistilOptions, context.args, "mixer distil")
    from model.distillation.distil import DistilCallbacks  # noqa: PLC0415
    from model.distillation.distil import distil as run  # noqa: PLC0415

    with stop_signals() as signals:
        try:
            with bar() as progress, signals.waiting():
                on_step = task_of(progress, "learning", each=options.batch_size)
                run(options, DistilCallbacks(on_note=console.print, on_step=on_step, should_stop=signals.came))
        except (TrainingStopped, StopNow) as stopped:
            console.print(f"{str(stopped) or 'stopped at once'}. To go on, give the same command again:")
            console.print(f"  {command_line('distil', *context.args)}")
            sys.exit(signals.exit_code)
    typer.echo("next:\n  " + command_line("export", options.out, f"bundles/{options.out.name}", "--data", options.data))
