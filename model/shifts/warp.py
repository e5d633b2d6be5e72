"""Float pictures sampled at other places, and smooth random fields. Knows no kind of change by name."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def grid(height: int, width: int) -> tuple[Floats, Floats]:
    """The row and the column of every pixel, float32 [H, W] each, from the middle of the picture."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return rows - (height - 1) / 2, columns - (width - 1) / 2


def sampled(pictures: Floats, rows: Floats, columns: Floats, fill: Floats | None = None) -> Floats:
    """Bilinear samples of float32 [n, H, W, C], at places [h, w] or [n, h, w] counted from the middle: [n, h, w, C].

    fill: [n, 1, 1, C], what lies outside of a picture; without it, its outermost pixels go on for ever.
    """
    count, height, width, _ = pictures.shape
    rows, columns = rows + np.float32((height - 1) / 2), columns + np.float32((width - 1) / 2)
    inside_rows, inside_columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    top = inside_rows.astype(np.intp).clip(max=max(0, height - 2))
    left = inside_columns.astype(np.intp).clip(max=max(0, width - 2))
    down, right = (inside_rows - top)[..., np.newaxis], (inside_columns - left)[..., np.newaxis]
    bottom, far = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    each = slice(None) if rows.ndim == 2 else np.arange(count)[:, np.newaxis, np.newaxis]
    upper = pictures[each, top, left] * (1 - right) + pictures[each, top, far] * right
    lower = pictures[each, bottom, left] * (1 - right) + pictures[each, bottom, far] * right
    found = cast(Floats, upper * (1 - down) + lower * down)
    if fill is None:
        return found
    outside = (np.abs(rows - inside_rows) > 0.5) | (np.abs(columns - inside_columns) > 0.5)
    return np.where(outside[..., np.newaxis], fill, found)


def smooth_noise(generator: np.random.Generator, shape: tuple[int, int, int], cells: int) -> Floats:
    """A random field of [n, H, W] in [0, 1]: `cells` x `cells` random squares, between whose corners it is bilinear."""
    count, height, width = shape
    corners = generator.random((count, cells + 1, cells + 1, 1), dtype=np.float32)
    rows, columns = grid(height, width)
    found = sampled(corners, rows * np.float32(cells / height), columns * np.float32(cells / width))
    return found[..., 0]


def fractal_noise(generator: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """A cloudy random field of [n, H, W], each picture's from 0 to 1: octaves of noise, each half as strong."""
    cells = [2**octave for octave in range(1, 6) if 2**octave <= min(shape[1:])]
    clouds = np.sum([smooth_noise(generator, shape, count) * (2 / count) for count in cells], axis=0)
    low, high = clouds.min(axis=(1, 2), keepdims=True), clouds.max(axis=(1, 2), keepdims=True)
    return cast(Floats, ((clouds - low) / np.maximum(high - low, 1e-6)).astype(np.float32))
