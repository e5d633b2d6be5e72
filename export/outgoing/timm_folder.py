"""The folder that timm's layout is written to, and all that is written there. Knows no tensor."""

import json
from pathlib import Path

from export.card.prose import read_prose
from export.outgoing.timm_card import timm_readme
from export.outgoing.timm_layout import expect_network_of_timm, write_layout
from model.errors import ExportError
from model.network.checkpoint import Checkpoint
from model.network.checkpoint_folder import CONFIG, WEIGHTS, write_failure

README = "README.md"


def write_timm(checkpoint: Checkpoint, source: Path, folder: Path) -> None:
    """Write timm's layout with a model card, whose prose is that of card.toml in `source`.

    Raises: ExportError where `folder` holds anything but an earlier one, or cannot be written, and for a network with
    a hidden layer in its head.
    """
    expect_network_of_timm(checkpoint.model.config)
    expect_timm_folder(folder)
    prose = read_prose(source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_layout(checkpoint, folder)
        text = timm_readme(checkpoint, prose, (folder / WEIGHTS).stat().st_size)
        (folder / README).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {write_failure(error, folder)}") from error


def expect_timm_folder(folder: Path) -> None:
    """Raises ExportError where `folder` is a file, or holds anything but timm's layout: a checkpoint, too."""
    if not folder.exists() or _is_timm_layout(folder):
        return
    if not folder.is_dir():
        raise ExportError(f"{folder} is a file; expected a folder to write timm's layout to.")
    others = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if others:
        raise ExportError(
            f"{folder} holds {', '.join(others[:3])}, and is not in timm's layout; expected a new folder, an empty one "
            "or one to replace."
        )


def _is_timm_layout(folder: Path) -> bool:
    """Whether a Mixer is there; timm's other networks lie in folders of the same files, and are nobody's to replace."""
    try:
        architecture = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["architecture"]
        return bool(architecture.startswith("mixer_"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
