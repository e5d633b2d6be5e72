"""What is behind a thing: whether it is light, how bright it is, and where the thing is before it.

Knows squares of pixels, nothing of how they were made.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of a square's side."""

_THING = 24  # this far above a black background a pixel is the thing's
_FILLS = 0.86  # of the side: a thing of that size needs no other frame
_LEAST = 0.2  # of the side: anything smaller is a speck


class Ground(NamedTuple):
    """What is done to a picture for its background: whether it is inverted, then what becomes 0 in each channel."""

    inverted: bool
    levels: tuple[int, ...]


def is_light(square: Pixels) -> bool:
    """Whether the outermost pixels of uint8 [H, W, C] are above the middle, on average; exactly the middle is not."""
    border = _border(square)
    return int(border.sum(dtype=np.int64)) * 2 > 255 * border.size


def on_dark(square: Pixels) -> Pixels:
    """The square, inverted where its background is light."""
    return 255 - square if is_light(square) else square


def of(square: Pixels) -> Ground:
    """The background of uint8 [H, W, C]: of its outermost pixels those that three quarters are at least as bright as.

    So a thing may reach over most of the border.
    """
    border, inverted = _border(square), is_light(square)
    border = 255 - border if inverted else border
    darkest = np.partition(border, len(border) // 4, axis=0)[len(border) // 4]
    return Ground(inverted, tuple(int(level) for level in darkest))


def leveled(pixels: Pixels, ground: Ground) -> Pixels:
    """The picture before a black background."""
    upright = 255 - pixels if ground.inverted else pixels
    if not any(ground.levels):
        return upright
    levels = np.array(ground.levels, np.float32)
    stretched = (upright - levels) * (255 / np.maximum(255 - levels, 1))
    return np.asarray(stretched.clip(0, 255).round(), np.uint8)


def _border(square: Pixels) -> Pixels:
    """The outermost pixels, each once: uint8 [n, C]."""
    return np.concatenate([square[0], square[-1], square[1:-1, 0], square[1:-1, -1]])


def box_of_thing(square: Pixels) -> Box | None:
    """Where the thing is before black; None where it fills the square, or is too small to be one."""
    box = extent(square)
    if box is None or not _LEAST <= max(box[2] - box[0], box[3] - box[1]) < _FILLS:
        return None
    return box


def extent(square: Pixels) -> Box | None:
    """Where anything is before black; None where nothing is."""
    seen = square.max(2) > _THING
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return None
    side = len(square)
    return int(columns[0]) / side, int(rows[0]) / side, (int(columns[-1]) + 1) / side, (int(rows[-1]) + 1) / side
