"""Kept pictures as one folder a class, as `mixer train` takes them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from app.collection.folder import Kept
from app.collection.picture import UNKNOWN

_MOST_NAME_BYTES = 200  # file systems take 255


def write(kept: Sequence[Kept], output: Path) -> int:
    """Copy each picture to OUTPUT/LABEL/DAY_NAME; returns how many. Bytes of no known kind are left out.

    Raises: OSError.
    """
    written = 0
    for one in kept:
        if one.picture.suffix == f".{UNKNOWN}":
            continue
        folder = output / folder_name(label_of(one))
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.picture, folder / f"{one.picture.parent.name}_{one.picture.name}")
        written += 1
    return written


def label_of(one: Kept) -> str:
    """What somebody said, else what the model said."""
    return one.record.predictions[0].label if one.label is None else one.label


def folder_name(label: str) -> str:
    """A label as the name of a folder: what cannot stand in one becomes a hyphen, and what is too long is cut off."""
    name = "".join(character if character.isprintable() and character != "/" else "-" for character in label)
    name = name.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")
    return f"-{name[1:]}" if name.startswith(".") else name
