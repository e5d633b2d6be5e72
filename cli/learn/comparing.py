"""`mixer compare`: which network is the best start for some pictures. Torch is loaded when it runs, and not before."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.learn.telling import tell_findings
from cli.terminal import bar, command_line, console, require_extra, task_of

if TYPE_CHECKING:
    from model.heads.comparing import Comparison


def compare(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Pictures to learn from, as for mixer train.")],
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Checkpoint folders, bundles with a checkpoint, or public names."),
    ],
) -> None:
    """Train a head on each of several frozen networks, and print one table. Writes no checkpoint.

    A network that cannot be had is named in the table, and below it with the reason. Exit code 1 where there is one.
    """
    require_extra("torch")
    from model.heads.comparing import compare as run  # noqa: PLC0415
    from model.training.run_config import TrainCallbacks  # noqa: PLC0415

    with bar() as progress:
        callbacks = TrainCallbacks(
            on_download=task_of(progress, "downloading"),
            on_reading=task_of(progress, "embedding pictures"),
            on_note=console.print,
            on_findings=tell_findings,
        )
        found = run(data, models, callbacks)
    Console(width=110).print(comparison_table(found))
    for one in found.failed:
        console.print(f"{one.source} failed: {one.reason}")
    if found.rows:
        typer.echo(f"next:\n  {command_line('train', data, '--init', found.rows[0].source, '--freeze')}")
    if found.failed:
        raise typer.Exit(1)


def comparison_table(found: "Comparison") -> Table:
    """A row for each network, best first, and then those that could not be had."""
    from model.evaluation.evaluate import top1_interval  # noqa: PLC0415

    judged = "".join(f", judged by the {row.judged_by}, {row.num_pictures} pictures" for row in found.rows[:1])
    table = Table(title=f"Heads on frozen networks{judged}")
    for column in ("network", "top-1", "95 % interval", "time", "parameters", "pixels", "images/s"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=column != "network")
    for row in found.rows:
        low, high = top1_interval(row.top1, row.num_pictures)
        table.add_row(
            row.source,
            f"{row.top1:.2%}",
            f"{low:.1%} to {high:.1%}",
            f"{row.taken_s:.1f} s",
            f"{row.num_parameters / 1e6:.1f} M",
            str(row.image_size),
            f"{row.images_per_s:.0f}",
        )
    for one in found.failed:
        table.add_row(Text(one.source), "failed", *["-"] * 5)
    return table
