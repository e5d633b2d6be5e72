"""A picture turned, scaled, shifted, mirrored, on another background or framed. Knows nothing of what it shows.

What comes into sight from outside has the color of the picture's own border: the median of its outermost pixels.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from model.preprocess import Pixels
from model.shifts.corruptions import to_bytes, to_floats
from model.shifts.warp import Floats, grid, sampled

_DARK = 64  # a border below this is dark
_DARKEST = 16  # what is not above this before a dark border is background
_FRAME = 1 / 14  # of the side

Geometry = Callable[[Pixels, np.random.Generator], Pixels]


def turned(pixels: Pixels, degrees: NDArray[np.float64]) -> Pixels:
    """Each of uint8 [n, H, W, C] by its own angle [n], counterclockwise."""
    angle = np.deg2rad(degrees)[:, np.newaxis, np.newaxis]
    rows, columns = grid(*pixels.shape[1:3])
    cos, sin = np.cos(angle), np.sin(angle)
    return _sampled(pixels, rows * cos + columns * sin, columns * cos - rows * sin)


def _rotated(pixels: Pixels, generator: np.random.Generator, *, degrees: float) -> Pixels:
    """Each to a random side."""
    return turned(pixels, -degrees * generator.choice([-1.0, 1.0], len(pixels)))


def _scaled(pixels: Pixels, _: np.random.Generator, *, factor: float) -> Pixels:
    rows, columns = grid(*pixels.shape[1:3])
    return _sampled(pixels, rows / np.float32(factor), columns / np.float32(factor))


def _shifted(pixels: Pixels, generator: np.random.Generator, *, share: float) -> Pixels:
    """Each by that share of its side, in a random direction."""
    angle = generator.uniform(0, 2 * np.pi, (len(pixels), 1, 1))
    height, width = pixels.shape[1:3]
    rows, columns = grid(height, width)
    return _sampled(pixels, rows + np.sin(angle) * share * height, columns + np.cos(angle) * share * width)


def _flipped(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _on_background(pixels: Pixels, _: np.random.Generator, *, level: int) -> Pixels:
    """Where the border is dark, pixels that are almost black become this grey; other pictures stay as they are."""
    is_background = (pixels <= _DARKEST).all(axis=3, keepdims=True) & _has_dark_border(pixels)
    return np.where(is_background, np.uint8(level), pixels)


def _framed(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """A frame, white around a dark border and black around any other."""
    height, width = pixels.shape[1:3]
    thickness = max(1, round(min(height, width) * _FRAME))
    inner = np.zeros((1, height, width, 1), dtype=bool)
    inner[:, thickness:-thickness, thickness:-thickness] = True
    color = np.where(_has_dark_border(pixels), np.uint8(255), np.uint8(0))
    return np.where(inner, pixels, color)


def _sampled(pixels: Pixels, rows: Floats, columns: Floats) -> Pixels:
    rows, columns = rows.astype(np.float32), columns.astype(np.float32)
    return to_bytes(sampled(to_floats(pixels), rows, columns, _border_color(pixels)))


def _border_color(pixels: Pixels) -> Floats:
    """float32 [n, 1, 1, C] in [0, 1]."""
    median = np.median(_border(pixels), axis=1) / 255
    return cast(Floats, median[:, np.newaxis, np.newaxis].astype(np.float32))


def _has_dark_border(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """bool [n, 1, 1, 1]."""
    return cast(
        np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        (_border(pixels).mean(axis=(1, 2)) < _DARK)[:, np.newaxis, np.newaxis, np.newaxis],
    )


def _border(pixels: Pixels) -> Pixels:
    """The outermost pixels: uint8 [n, m, C]."""
    return np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1]], axis=1)


GEOMETRY: Mapping[str, Geometry] = {
    **{f"rotated by {degrees}°": partial(_rotated, degrees=degrees) for degrees in (10, 20, 30, 45, 90, 180)},
    **{f"scaled to {factor}": partial(_scaled, factor=factor) for factor in (0.7, 0.5, 1.3)},
    **{f"shifted by {share:.0%}": partial(_shifted, share=share) for share in (0.1, 0.2)},
    "mirrored": _flipped,
    "background grey 40": partial(_on_background, level=40),
    "background white": partial(_on_background, level=255),
    "framed": _framed,
}
