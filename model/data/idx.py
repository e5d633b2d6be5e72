"""IDX files, the format of MNIST and its relatives: arrays of unsigned bytes. Knows nothing of training."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

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
