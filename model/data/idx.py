"""IDX files, the format of MNIST and its relatives: arrays of bytes, alone and as a Dataset. Knows no training."""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, ImageSet, PreprocessConfig, allocate, fingerprint, hold_out, no_images
from model.data.scan import shown
from model.errors import DataError
from model.preprocess import Pixels, to_square

_PREFIX = {"train": "train", "test": "t10k"}
_RANK = {"images": 3, "labels": 1}


def has_split(folder: Path, split: str) -> bool:
    """Whether `folder` holds the images of "train" or "test"."""
    return _file(folder, split, "images") is not None


def read_split(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [N, H, W] and labels int64 [N] of "train" or "test". Raises DataError."""
    arrays = []
    for kind in _RANK:
        path = _file(folder, split, kind)
        if path is None:
            raise DataError(f"{folder} has no {_PREFIX[split]}-{kind} IDX file.")
        arrays.append(read(path))
    images, labels = arrays
    if images.ndim != 3 or not images.size or labels.shape != images.shape[:1]:
        raise DataError(f"{folder}: {split} images are {images.shape}, labels {labels.shape}; expected [N, H, W], [N].")
    return images, labels.astype(np.int64)


def read(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, plain or gzipped, as an array of its own shape. Raises DataError."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path} starts with {content[:4].hex() or 'nothing'}; expected an IDX file of unsigned bytes.")
    header_bytes = 4 + 4 * content[3]
    if len(content) < header_bytes:
        raise DataError(f"{path} has {len(content)} bytes; its header alone takes {header_bytes}.")
    shape = tuple(int(size) for size in np.frombuffer(content[4:header_bytes], dtype=">u4"))
    if len(content) - header_bytes != math.prod(shape):
        raise DataError(f"{path} holds {len(content) - header_bytes} values; its header says {shape}.")
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)


def _file(folder: Path, split: str, kind: str) -> Path | None:
    stem = f"{_PREFIX[split]}-{kind}-idx{_RANK[kind]}-ubyte"
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


# --- as a data set ---------------------------------------------------------------------------------------------------


def load(
    folder: Path,
    preprocess_config: PreprocessConfig,
    labels: Sequence[str] | None,
    val_fraction: float,
    seed: int,
    *,
    may_be_some: bool = False,
) -> Dataset:
    """All splits of a folder, a seeded share of the training pictures held out. Raises DataError."""
    images, classes = read_split(folder, "train")
    num_classes = int(classes.max(initial=-1)) + 1
    names = tuple(labels) if labels is not None else tuple(str(index) for index in range(num_classes))
    if len(names) != num_classes and not (may_be_some and len(names) > num_classes):
        raise DataError(f"{shown(folder)} has {num_classes} classes; expected as many labels, not {len(names)}.")
    train, val = (
        ImageSet(_fitted(images[chosen], preprocess_config), classes[chosen])
        for chosen in hold_out(classes, val_fraction, seed)
    )
    test = _idx_test(folder, preprocess_config, len(names)) if has_split(folder, "test") else None
    return Dataset(names, train, val, test, fingerprint(train, val, test), is_held_out=True)


def load_test(folder: Path, preprocess_config: PreprocessConfig, labels: Sequence[str]) -> Dataset:
    """A test split alone."""
    test, nothing = _idx_test(folder, preprocess_config, len(labels)), no_images(preprocess_config)
    return Dataset(tuple(labels), nothing, nothing, test, fingerprint(test))


def _idx_test(folder: Path, preprocess_config: PreprocessConfig, num_classes: int) -> ImageSet:
    images, classes = read_split(folder, "test")
    if classes.max(initial=0) >= num_classes:
        raise DataError(
            f"{shown(folder)} has the class {classes.max()} in its test labels; expected below {num_classes}."
        )
    return ImageSet(_fitted(images, preprocess_config), classes)


def _fitted(images: NDArray[np.uint8], preprocess_config: PreprocessConfig) -> Pixels:
    """Grey images [N, H, W] as the network sees them."""
    pixels = allocate(len(images), preprocess_config)
    for index, image in enumerate(images):
        stacked = np.repeat(image[:, :, np.newaxis], preprocess_config.channels, axis=2)
        pixels[index] = to_square(
            stacked, preprocess_config.image_size, preprocess_config.fit, preprocess_config.interpolation
        )
    return pixels
