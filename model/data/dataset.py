"""Pictures with labels, as values, and the loading of one file. Knows nothing of folders or of the network.

Every picture goes through preprocess.py once, at loading, and is kept as uint8 pixels; model/data/augment.py
varies them from epoch to epoch.
"""

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.scan import FORMATS, shown
from model.errors import DataError
from model.preprocess import Pixels, to_pixels, to_square
from model.spec import Fit, Interpolation

_IN_MEMORY_BYTES = 4 << 30  # above this, pixels lie in a temporary file that the system pages in


@dataclass(frozen=True)
class PreprocessConfig:
    """How a picture becomes pixels: the part of a ModelSpec that loading needs."""

    image_size: int
    channels: int = 3
    fit: Fit = field(default_factory=Fit)
    interpolation: Interpolation = "bicubic"


@dataclass(frozen=True)
class ImageSet:
    """pixels: uint8 [N, H, W, C]; labels: int64 [N], each an index into Dataset.labels.

    paths: the N files, where each picture has a file; else empty.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    paths: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The splits. `skipped` names each picture that could not be read, and why; `notes` are lines for the user.

    is_held_out: whether the validation pictures are a share of the training pictures, not a set of their own.
    """

    labels: tuple[str, ...]
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    fingerprint: str
    skipped: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()
    is_held_out: bool = False

    @property
    def judged(self) -> tuple[str, ImageSet]:
        """The split to evaluate on, with its name: the test pictures, or the validation pictures."""
        return ("test", self.test) if self.test is not None else ("validation", self.val)


def read_pixels(path: Path, preprocess_config: PreprocessConfig) -> Pixels:
    """One file as uint8 [image_size, image_size, channels]. Raises DataError, naming the file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = to_pixels(image, preprocess_config.channels)
    except Exception as error:  # broken files raise almost anything inside a decoder
        reason = str(error).removesuffix(f" {str(path)!r}") or type(error).__name__
        raise DataError(f"{shown(path)} is not a readable picture: {shown(reason)}") from error
    return to_square(pixels, preprocess_config.image_size, preprocess_config.fit, preprocess_config.interpolation)


def no_images(preprocess_config: PreprocessConfig) -> ImageSet:
    """An empty set."""
    return ImageSet(allocate(0, preprocess_config), np.empty(0, dtype=np.int64))


def allocate(count: int, preprocess_config: PreprocessConfig) -> Pixels:
    """An uninitialized array for so many pictures: uint8 [count, H, W, C]."""
    shape = (count, preprocess_config.image_size, preprocess_config.image_size, preprocess_config.channels)
    if np.prod(shape, dtype=np.int64) <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)


def hold_out(labels: NDArray[np.int64], val_fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows for training and for validation: a seeded share of every class, at least one picture where it has two."""
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held_out[members[: min(len(members) - 1, max(1, round(len(members) * val_fraction)))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def fingerprint(*sets: ImageSet | None) -> str:
    """A digest of every pixel as the network sees it, and every label."""
    digest = hashlib.sha256()
    for images in sets:
        if images is not None:
            digest.update(repr(images.pixels.shape).encode())
            digest.update(np.ascontiguousarray(images.pixels).data)
            digest.update(images.labels.data)
    return digest.hexdigest()
