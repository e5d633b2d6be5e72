"""`mixer collected list | export | prune`: the folder of kept pictures, for people and for training. Loads no torch."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.collection.folder import Folder, FolderLimits, Kept
from cli.collected import class_folders, label_studio, parquet
from cli.terminal import console
from model.errors import MixerError

collected = typer.Typer(name="collected", no_args_is_help=True, help="The pictures that a service has kept.")

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="What MIXER_COLLECT_DIR is.")]
LabelledOption = Annotated[bool, typer.Option("--labelled-only", help="Only those whose true label somebody has said.")]
_NO_LIMIT = 1 << 62


class Form(StrEnum):
    """What pictures are exported to."""

    FOLDERS = "folders"
    LABEL_STUDIO = "label-studio"
    PARQUET = "parquet"


@collected.command("list")
def list_pictures(folder: FolderArgument, labelled_only: LabelledOption = False) -> None:
    """Print a line for each kept picture: its file, what the model said, what somebody said, why it was kept."""
    found = _kept_in(folder, labelled_only=labelled_only)
    if not found:
        console.print(f"{folder} has no {'labelled ' if labelled_only else ''}picture.")
    for one in found:
        best, record = one.record.predictions[0], one.record
        told = (best.label, f"{best.probability:.3f}", one.label or "-", ",".join(record.chosen_by), record.model.name)
        typer.echo("\t".join((one.picture.relative_to(folder).as_posix(), *told)))


@collected.command()
def export(
    folder: FolderArgument,
    output: Annotated[Path, typer.Option(help="A new folder, or for the other forms a new file.")],
    to: Annotated[Form, typer.Option(help="folders: one a class, as mixer train takes them.")] = Form.FOLDERS,
    labelled_only: LabelledOption = False,
) -> None:
    """Write the kept pictures in a form that training or a labelling tool takes.

    A picture has the label that somebody has said, else the one that the model had said.
    """
    found = _kept_in(folder, labelled_only=labelled_only)
    if not found:
        raise MixerError(f"{folder} has no {'labelled ' if labelled_only else ''}picture; expected some to export.")
    _expect_new(output, to)
    write = {
        Form.FOLDERS: class_folders.write,
        Form.LABEL_STUDIO: label_studio.write,
        Form.PARQUET: parquet.write,
    }[to]
    try:
        written = write(found, output)
    except OSError as error:
        raise MixerError(f"{output} cannot be written: {error}") from error
    said = sum(one.label is not None for one in found)
    typer.echo(f"{output}: {written} pictures; somebody has labelled {said} of {len(found)}")
    if said < len(found):
        console.print("The others have the model's own labels, right or wrong; --labelled-only leaves them out.")


@collected.command()
def prune(
    folder: FolderArgument,
    days: Annotated[int, typer.Option(min=1, help="Delete what is older than so many days.")],
) -> None:
    """Delete old pictures with their answers and labels; a service that uses the folder goes on."""
    _expect_folder(folder)
    left = Folder(folder, FolderLimits(_NO_LIMIT, _NO_LIMIT, days)).tidy()
    typer.echo(f"{folder}: {left.images} pictures are left, {left.bytes} bytes")


def _kept_in(folder: Path, *, labelled_only: bool) -> Sequence[Kept]:
    _expect_folder(folder)
    pictures = Folder(folder, FolderLimits(_NO_LIMIT, _NO_LIMIT, 0)).pictures()
    return [one for one in pictures if one.label is not None or not labelled_only]


def _expect_new(output: Path, to: Form) -> None:
    expected = "folder" if to is Form.FOLDERS else "file"
    if to is Form.LABEL_STUDIO and output.suffix == label_studio.CONFIGURATION:
        raise MixerError(f"{output} is where the labelling configuration goes; expected another ending, as .json.")
    beside = [output.with_suffix(label_studio.CONFIGURATION)] if to is Form.LABEL_STUDIO else []
    for path in (output, *beside):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise MixerError(f"{path} is there already; expected a new {expected}.")


def _expect_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise MixerError(f"{folder} is no folder; expected that of a service's kept pictures, MIXER_COLLECT_DIR.")
