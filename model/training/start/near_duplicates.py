"""Validation pictures that are training pictures, saved anew: another size, another quality. Knows no files.

A difference hash finds candidates, and the pictures' own colors, coarsely, confirm them. Pictures that are the same
pixel for pixel are told by model/evaluation/inventory.py.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, ImageSet
from model.data.scan import shown
from model.data.stream import StreamedPixels

_ROWS, _COLUMNS = 8, 9  # of the hash; a bit for each pair of neighbours in a row
_MOST_BITS = 3  # that may differ
_LEAST_DETAIL = 8  # bits: a plain picture is like any other
_COARSE, _MOST_DIFFERENCE = 8, 6.0  # squares a side; levels of 255, on average
_LEAST_SIDE = 32  # pixels
_AT_ONCE, _MOST_NAMED = 64, 5
Hashes = NDArray[np.uint64]


def near_duplicates(dataset: Dataset) -> list[str]:
    """A warning where there are some, with their names.

    Pictures that are streamed are not looked at, nor those of fewer than 32 pixels: two trousers of Fashion-MNIST are
    as alike as one saved twice.
    """
    is_small = dataset.train.pixels.shape[1] < _LEAST_SIDE
    if is_small or isinstance(dataset.train.pixels, StreamedPixels) or not len(dataset.train):
        return []
    pairs = list(_pairs(dataset.train, dataset.val))
    if not pairs:
        return []
    named = [f"{_name(dataset.val, i)} = {_name(dataset.train, j)}" for i, j in pairs[:_MOST_NAMED]]
    more = f" and {len(pairs) - _MOST_NAMED} more" if len(pairs) > _MOST_NAMED else ""
    return [
        f"warning: {len(pairs)} of {len(dataset.val)} validation pictures look like training pictures, saved anew, so "
        f"that the accuracy may look better than it is: {', '.join(named)}{more}."
    ]


def _pairs(train: ImageSet, val: ImageSet) -> Iterator[tuple[int, int]]:
    """Rows of a validation picture and of the training picture that it is like."""
    known = _hashes(train)
    for start in range(0, len(val), _AT_ONCE):
        hashes = _hashes(val, slice(start, start + _AT_ONCE))
        distances = np.bitwise_count(hashes[:, np.newaxis] ^ known)
        for row in np.flatnonzero((distances <= _MOST_BITS).any(axis=1)):
            if _has_detail(hashes[row]):
                candidates = np.flatnonzero(distances[row] <= _MOST_BITS)
                alike = next((j for j in candidates if _is_like(val.pixels[start + row], train.pixels[j])), None)
                if alike is not None:
                    yield start + int(row), int(alike)


def _hashes(images: ImageSet, places: slice = slice(None)) -> Hashes:
    """uint64 [n]: whether each of 8 x 9 squares is lighter than its right neighbour."""
    found = []
    start, stop, _ = places.indices(len(images))
    for first in range(start, stop, _AT_ONCE):
        grey = images.pixels[first : min(first + _AT_ONCE, stop)].mean(axis=3)
        squares = _pooled(grey, _ROWS, _COLUMNS)
        bits = squares[:, :, :-1] > squares[:, :, 1:]
        found.append(np.packbits(bits.reshape(len(bits), -1), axis=1).view(np.uint64)[:, 0])
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _pooled(values: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Means over a grid: [n, H, W, ...] -> [n, rows, columns, ...]; pictures of fewer pixels repeat theirs."""
    height, width = values.shape[1:3]
    down = np.linspace(0, height, rows + 1).astype(int)
    across = np.linspace(0, width, columns + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(values, down[:-1], axis=1), across[:-1], axis=2)
    sizes = np.maximum(np.diff(down), 1)[:, np.newaxis] * np.maximum(np.diff(across), 1)
    pooled: NDArray[np.float64] = sums / sizes.reshape(rows, columns, *[1] * (values.ndim - 3))
    return pooled


def _has_detail(one: np.uint64) -> bool:
    return _LEAST_DETAIL <= int(np.bitwise_count(one)) <= 64 - _LEAST_DETAIL


def _is_like(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    """Whether the colors are the same, coarsely, and not every pixel is."""
    if np.array_equal(first, second):
        return False
    both = _pooled(np.stack([first, second]).astype(np.float64), _COARSE, _COARSE)
    return bool(np.abs(both[0] - both[1]).mean() <= _MOST_DIFFERENCE)


def _name(images: ImageSet, row: int) -> str:
    return shown(Path(images.paths[row])) if images.paths else f"number {row}"
