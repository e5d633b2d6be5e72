"""Blurs: a lens out of focus, a moving camera, a zoom during the exposure. Lengths are shares of a picture's side."""

from typing import cast

import numpy as np

from model.shifts.warp import Floats, grid, sampled

_ZOOMS = 8  # exposures that a zoom is made of


def defocus(pictures: Floats, radius: float, _: np.random.Generator) -> Floats:
    """Every point becomes a disk. pictures: float32 [n, H, W, C]."""
    pixels = radius * min(pictures.shape[1:3])
    rows, columns = _kernel_grid(pixels + 1)
    return convolved(pictures, (pixels + 1 - np.hypot(rows, columns)).clip(0, 1))


def motion(pictures: Floats, length: float, generator: np.random.Generator) -> Floats:
    """Every point becomes a line, in one random direction for all pictures of the call."""
    return convolved(pictures, line(length * min(pictures.shape[1:3]), generator.uniform(0, np.pi)))


def zoom(pictures: Floats, most: float, _: np.random.Generator) -> Floats:
    """The mean of the picture and of its middle magnified up to 1 + `most` times."""
    rows, columns = grid(*pictures.shape[1:3])
    exposures = np.linspace(1, 1 + most, _ZOOMS, dtype=np.float32)
    return cast(Floats, sum(sampled(pictures, rows / factor, columns / factor) for factor in exposures) / _ZOOMS)


def line(pixels: float, angle: float) -> Floats:
    """A kernel: a line so long through the middle, with soft edges."""
    rows, columns = _kernel_grid(pixels / 2)
    along = np.abs(columns * np.cos(angle) + rows * np.sin(angle))
    across = np.abs(rows * np.cos(angle) - columns * np.sin(angle))
    kernel = (1 - across).clip(0, 1) * (pixels / 2 + 0.5 - along).clip(0, 1)
    return cast(Floats, kernel.astype(np.float32))


def convolved(pictures: Floats, kernel: Floats) -> Floats:
    """float32 [n, H, W, C] under one odd square kernel, made to sum to 1; the outermost pixels go on for ever."""
    height, width = pictures.shape[1:3]
    margin = len(kernel) // 2
    padded = np.pad(pictures, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    size, axes = padded.shape[1:3], (1, 2)
    spectrum = np.fft.rfft2((kernel / kernel.sum()).astype(np.float32), s=size)[np.newaxis, ..., np.newaxis]
    whole = np.fft.irfft2(np.fft.rfft2(padded, axes=axes) * spectrum, s=size, axes=axes)
    return cast(Floats, whole[:, 2 * margin : 2 * margin + height, 2 * margin : 2 * margin + width].astype(np.float32))


def _kernel_grid(radius: float) -> tuple[Floats, Floats]:
    side = 2 * int(np.ceil(radius)) + 1
    return grid(side, side)
