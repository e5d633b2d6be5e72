"""Pictures with labels, as values, and the loading of one file. Knows nothing of folders or of the network.

Every picture goes through preprocess.py: once, at loading, and is kept as uint8 pixels, or whenever it is asked for
(model/data/stream.py). model/data/augment.py varies them from epoch to epoch.
"""

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.scan import FORMATS, shown
from model.errors import DataError
from model.preprocess import Pixels, View, to_pixels, to_square, to_view
from model.spec import Fit, Interpolation

_IN_MEMORY_BYTES = 4 << 30  # above this, pixels lie in a temporary file that the system pages in
_BLOCK = 256  # pictures at once, where all of a set are looked at
_MARGIN = 1.25  # a JPEG of which a part is wanted is decoded at no less than so many times the part's final size


@dataclass(frozen=True)
class PreprocessConfig:
    """How a picture becomes pixels: the part of a ModelSpec that loading needs."""

    image_size: int
    channels: int = 3
    fit: Fit = field(default_factory=Fit)
    interpolation: Interpolation = "bicubic"


class PixelRows(Protocol):
    """uint8 [N, H, W, C], indexed along N: an array, or files that are decoded when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, H, W, C."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Pixels: ...


@dataclass(frozen=True)
class ImageSet:
    """pixels: uint8 [N, H, W, C]; labels: int64 [N], each an index into Dataset.labels.

    paths: the N files, where each picture has a file; else empty.
    """

    pixels: PixelRows
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


def read_pixels(path: Path, preprocess_config: PreprocessConfig, view: View | None = None) -> Pixels:
    """One file as uint8 [image_size, image_size, channels], all of its square or a view. Raises DataError."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if view is not None:
                _reduce(image, preprocess_config, view)
            pixels = to_pixels(image, preprocess_config.channels)
    except Exception as error:  # broken files raise almost anything inside a decoder
        reason = str(error).removesuffix(f" {str(path)!r}") or type(error).__name__
        raise DataError(f"{shown(path)} is not a readable picture: {shown(reason)}") from error
    how = preprocess_config.image_size, preprocess_config.fit, preprocess_config.interpolation
    return to_square(pixels, *how) if view is None else to_view(pixels, view, *how)


def _reduce(image: Image.Image, preprocess_config: PreprocessConfig, view: View) -> None:
    """Have a JPEG decoded at an eighth, a quarter or a half where the view stays larger than what it becomes."""
    left, top, right, bottom = view
    percentage = preprocess_config.fit.crop_percentage if preprocess_config.fit.mode == "crop" else 1.0
    side = min(image.size) * percentage * min(right - left, bottom - top)
    scale = next((scale for scale in (8, 4, 2) if side >= scale * _MARGIN * preprocess_config.image_size), 1)
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))


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


def evenly_spaced(count: int, most: int) -> NDArray[np.intp]:
    """At most so many of `count` rows, from the first to the last: class folders come one after another."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.intp)


def hold_out(labels: NDArray[np.int64], val_fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows for training and for validation: a seeded share of every class, at least one picture where it has two."""
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held_out[members[: min(len(members) - 1, max(1, round(len(members) * val_fraction)))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def picture_digest(pixels: Pixels) -> bytes:
    """16 bytes that two different pictures do not share."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def fingerprint(*sets: ImageSet | None) -> str:
    """A digest of every pixel as the network sees it, and every label."""
    digest = hashlib.sha256()
    for images in sets:
        if images is not None:
            digest.update(repr(images.pixels.shape).encode())
            for start in range(0, len(images), _BLOCK):
                digest.update(np.ascontiguousarray(images.pixels[start : start + _BLOCK]).data)
            digest.update(images.labels.data)
    return digest.hexdigest()
