"""`mixer push`: a bundle or checkpoint to a hub. Torch is loaded when it runs, and not before."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from cli.terminal import require_extra
from model.errors import ExportError

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")


def push(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Bundle folder, or checkpoint folder.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/REPO", help="Repository; made where it is missing.")],
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Whether a new repository is private. Default: as the hub has it."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch to write to, made where it is missing. Default: main.")
    ] = None,
) -> None:
    """Push a model to a hub: ONNX graphs, timm's layout, and the model card, as one commit.

    HF_TOKEN is the token, HF_ENDPOINT another hub than huggingface.co. A bundle that is signed goes as it is.
    """
    for module in ("huggingface_hub", "onnxscript"):
        require_extra(module)
    from export.outgoing import hub, package  # noqa: PLC0415

    if not _REPOSITORY.fullmatch(repository):
        raise ExportError(f"{repository} names no repository; expected ORG/REPO.")
    with TemporaryDirectory(prefix="mixer-push-") as name:
        folder = Path(name)
        package.collect(source, folder)
        names = sorted(path.name for path in folder.iterdir())
        message = f"Push {source.resolve().name}"
        address = hub.upload(folder, repository, private=private, revision=revision, message=message)
    typer.echo(f"{address}: {', '.join(names)}")
