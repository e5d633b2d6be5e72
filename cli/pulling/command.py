"""`mixer pull MODEL`: its bundle, fetched and made where it is not in the cache; `--prune`: the cache, made smaller.

Loads little before it runs.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from cli.terminal import console
from model.errors import CheckpointError


def pull(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="timm:NAME, google:FOLDER/NAME or hf-hub:ORG/REPO, the hub's with @REVISION; a file of weights "
            "(.npz, .safetensors); or a checkpoint folder.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="File with one label a line, or the word imagenet1k. Default: those that MODEL has."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Copy the bundle there, too, and print this folder.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Ask the hub whether there are newer weights.")] = False,
    is_pruned: Annotated[
        bool, typer.Option("--prune", help="Remove the bundles that no process uses, and none has begun to for long.")
    ] = False,
    unused_days: Annotated[float, typer.Option(min=0, metavar="DAYS", help="With --prune: how long.")] = 30,
) -> None:
    """Make a model's bundle, once: fetch it, convert it, check it, and keep it. Prints the bundle's folder.

    With --prune and without MODEL, bundles go out of the cache, and it is told how much that frees.
    """
    if is_pruned:
        _expect_alone(model)
        _prune(unused_days)
        return
    if model is None:
        raise CheckpointError("MODEL is missing; expected a name, weights or a checkpoint, or --prune.")
    from cli.pulling import packages  # noqa: PLC0415
    from cli.pulling.asked import asked_of  # noqa: PLC0415

    asked = asked_of(Path(model), _words(labels))
    if asked is None:
        what = "is no name, weights or checkpoint" if Path(model).exists() else "is no name, and does not exist"
        raise CheckpointError(f"{model} {what}; expected a name, weights or a checkpoint (mixer pull --help).")
    if out is not None:
        _expect_free(out)
    packages.expect_installed()
    from cli.pulling.making import make  # noqa: PLC0415
    from cli.pulling.store import Store  # noqa: PLC0415
    from cli.pulling.telling import bytes_told  # noqa: PLC0415
    from model.hubs.cache import cache_folder  # noqa: PLC0415

    made = make(asked, Store(cache_folder()), console.print, bytes_told, again=again)
    console.print(f"{'' if made.passed else 'warning: '}{model}: {made.told}")
    if out is not None:
        _copy(made.bundle, out)
    typer.echo(out or made.bundle)


def _expect_alone(model: str | None) -> None:
    if model is not None:
        raise CheckpointError(f"--prune is given with the model {model}; expected one of them.")


def _prune(unused_days: float) -> None:
    """Print a line for every bundle in the cache, and what is freed."""
    from cli.pulling.pruning import prune  # noqa: PLC0415
    from cli.pulling.store import Store  # noqa: PLC0415
    from model.hubs.cache import cache_folder  # noqa: PLC0415

    store = Store(cache_folder())
    found = prune(store, unused_days)
    for one in found:
        names = ", ".join(one.sources) or "of no name any more"
        age = f"used {one.unused_days:.0f} days ago"
        typer.echo(f"{one.outcome}: {one.folder}, {one.num_bytes / 1e6:.1f} MB, {age}: {names}")
    freed = [one.num_bytes for one in found if one.outcome == "removed"]
    left = sum(one.num_bytes for one in found) - sum(freed)
    bundles = "1 bundle" if len(freed) == 1 else f"{len(freed)} bundles"
    typer.echo(f"{store.models}: {bundles} removed, {sum(freed) / 1e6:.1f} MB freed; {left / 1e6:.1f} MB are left")


def _words(labels: Path | None) -> tuple[str, ...] | None:
    from model.data.layout import IMAGENET_1K, read_labels  # noqa: PLC0415

    return None if labels is None else read_labels(IMAGENET_1K if str(labels) == "imagenet1k" else labels)


def _copy(bundle: Path, out: Path) -> None:
    """Put the graphs of `bundle` into `out`, each whole, in place of all that are there. Raises CheckpointError."""
    from export.target import clear_others, graphs_in  # noqa: PLC0415
    from model.hubs.cache import write_failure  # noqa: PLC0415

    before = tuple(graphs_in(out))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".pull-") as folder:
            copies = [Path(shutil.copyfile(path, Path(folder) / path.name)) for path in bundle.iterdir()]
            for copy in copies:  # once there is room for all
                copy.replace(out / copy.name)
        clear_others(out, graphs_in(bundle), before)
    except OSError as error:
        raise CheckpointError(write_failure(out, error)) from error


def _expect_free(out: Path) -> None:
    """Raises ExportError where the folder holds other things than a bundle does."""
    from export.target import expect_bundle_folder  # noqa: PLC0415

    expect_bundle_folder(out)
