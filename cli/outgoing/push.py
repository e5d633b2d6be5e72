"""`mixer push`: a bundle or checkpoint to a hub. Torch is loaded when it runs, and not before."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from app import settings
from app.errors import StartError
from cli.terminal import console, require_extra
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

    HF_TOKEN is the token, HF_ENDPOINT another hub than huggingface.co. A bundle that is signed goes as it is, and with
    MIXER_BUNDLE_KEY, the public key, is verified first.
    """
    for module in ("huggingface_hub", "torch", "onnx"):
        require_extra(module)
    from export.outgoing import hub, package  # noqa: PLC0415

    if not _REPOSITORY.fullmatch(repository):
        raise ExportError(f"{repository} names no repository; expected ORG/REPO.")
    with TemporaryDirectory(prefix="mixer-push-") as name:
        folder = Path(name)
        package.collect(source, folder)
        if (folder / package.SIGNATURE).is_file():
            _verify(source, folder)
        names = sorted(path.name for path in folder.iterdir())
        message = f"Push {source.resolve().name}"
        address = hub.upload(folder, repository, private=private, revision=revision, message=message)
    typer.echo(f"{address}: {', '.join(names)}")


def _verify(source: Path, collected: Path) -> None:
    """Verify what is going to be pushed, where there is a key, and tell what was done. Raises ExportError."""
    from app.serving.signatures import verified  # noqa: PLC0415

    key = settings.load().bundle_key
    if key is None:
        console.print(
            f"The signature of {source} is not verified, as MIXER_BUNDLE_KEY names no public key; it goes as it is"
        )
        return
    try:
        with verified(collected, key):
            console.print(f"{source} is what was signed with {key}")
    except StartError as error:
        raise ExportError(f"{source} is not pushed: {str(error).replace(str(collected), str(source))}") from error
