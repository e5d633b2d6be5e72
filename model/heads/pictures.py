"""Which pictures a folder has, each by the digest of its content: a picture that is known is not decoded again.

Splits and held-out shares are those of model/data/loading.py. Knows nothing of networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from model.data import idx
from model.data.catalog import Rows, catalog
from model.data.dataset import ImageSet, PreprocessConfig, picture_digest, read_pixels
from model.data.loading import expect_folder, with_val
from model.data.scan import shown
from model.heads.cache import content_digest
from model.preprocess import Pixels


@dataclass(frozen=True)
class Picture:
    """label: an index into Listing.labels. read: uint8 [H, W, C] as the network sees it; raises DataError."""

    name: str
    label: int
    digest: bytes
    read: Callable[[], Pixels]


@dataclass
class Listing:
    """The pictures to learn from and those to judge by. skipped: files that cannot be read, with the reason."""

    labels: tuple[str, ...]
    train: list[Picture]
    val: list[Picture]
    is_held_out: bool
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def listing(
    folder: Path, preprocess_config: PreprocessConfig, *, labels: Sequence[str] | None, val_fraction: float, seed: int
) -> Listing:
    """DATA's pictures, none of them decoded but those of IDX files. A class may be alone.

    Raises: DataError, as model/data/loading.py does.
    """
    expect_folder(folder, val_fraction)
    if idx.has_split(folder, "train"):
        dataset = idx.load(folder, preprocess_config, labels, val_fraction, seed)
        return Listing(dataset.labels, _rows(dataset.train), _rows(dataset.val), dataset.is_held_out)
    found = catalog(folder, labels, fewest=1)
    rows = with_val(found.rows, val_fraction, seed)
    listed = Listing(found.labels, [], [], "val" not in found.rows, list(found.skipped), list(found.notes))
    listed.train = _files(rows["train"], preprocess_config, listed)
    listed.val = _files(rows["val"], preprocess_config, listed)
    return listed


def _rows(images: ImageSet) -> list[Picture]:
    return [
        Picture(f"number {row}", int(label), picture_digest(images.pixels[row]), partial(_row, images, row))
        for row, label in enumerate(images.labels)
    ]


def _row(images: ImageSet, row: int) -> Pixels:
    return images.pixels[row]


def _files(rows: Rows, preprocess_config: PreprocessConfig, listed: Listing) -> list[Picture]:
    pictures = []
    for path, label in rows:
        try:
            digest = content_digest(path.read_bytes())
        except OSError as error:
            listed.skipped.append((path, f"{shown(path)} cannot be read: {error.strerror}."))
            continue
        pictures.append(Picture(shown(path), label, digest, partial(read_pixels, path, preprocess_config)))
    return pictures


def evenly(pictures: Sequence[Picture], most: int) -> list[Picture]:
    """At most so many, evenly spaced: class folders come one after another."""
    rows = np.unique(np.linspace(0, len(pictures) - 1, min(most, len(pictures))).round().astype(int))
    return [pictures[row] for row in rows]
