"""Snow, frost and fog, drawn from noise, without a photograph. Pictures are float32 [n, H, W, C] in [0, 1]."""

from typing import cast

import numpy as np

from model.shifts.blur import convolved, line
from model.shifts.warp import Floats, fractal_noise, grid, smooth_noise

_FLAKE, _FALL = 0.03, 0.08  # the width of a flake, and how far it falls during the exposure: shares of the side
_ICE = np.array([0.82, 0.9, 0.98], dtype=np.float32)


def snow(pictures: Floats, amount: float, generator: np.random.Generator) -> Floats:
    """A pale veil, and flakes that fall slantwise. amount: from 0 to 1, of both."""
    shape = _shape(pictures)
    side = min(shape[1:])
    specks = smooth_noise(generator, shape, max(4, min(side, round(1 / _FLAKE))))
    flakes = ((specks - (1 - 0.5 * amount)) * 6).clip(0, 1)[..., np.newaxis]
    fallen = convolved(flakes, line(_FALL * side, generator.uniform(np.pi / 4, 3 * np.pi / 4)))
    veil = np.maximum(pictures, 0.4 + 0.6 * pictures.mean(axis=3, keepdims=True))
    return cast(Floats, pictures * (1 - amount) + veil * amount + fallen)


def frost(pictures: Floats, amount: float, generator: np.random.Generator) -> Floats:
    """Bright ridges of ice that are thickest at the border. amount: from 0 to 1, how much they hide."""
    count, height, width = _shape(pictures)
    rows, columns = grid(height, width)
    outward = np.maximum(np.abs(rows) / (height / 2), np.abs(columns) / (width / 2))
    ridges = 1 - np.abs(2 * fractal_noise(generator, (count, height, width)) - 1)
    ice = (amount * (ridges**2 + outward - 0.2)).clip(0, 1)[..., np.newaxis]
    color = _ICE if pictures.shape[3] == len(_ICE) else _ICE.mean(keepdims=True)
    return cast(Floats, pictures * (1 - ice) + color * ice)


def fog(pictures: Floats, thickness: float, generator: np.random.Generator) -> Floats:
    """Clouds that are added to the picture, whose contrast falls by 1 + thickness."""
    clouds = fractal_noise(generator, _shape(pictures))[..., np.newaxis]
    return cast(Floats, (pictures + np.float32(thickness) * (0.5 + 0.5 * clouds)) / np.float32(1 + thickness))


def _shape(pictures: Floats) -> tuple[int, int, int]:
    count, height, width, _ = pictures.shape
    return count, height, width
