"""Fifteen corruptions at five strengths, in the spirit of ImageNet-C (arXiv 1903.12261), defined anew.

Lengths are shares of a picture's side, so that pictures of 28 and of 224 pixels suffer alike; pixelate and jpeg, whose
squares are pixels, are harder on small ones. Random numbers come from
the generator that is passed in. Knows nothing of what a picture shows or who judges it.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.preprocess import Pixels
from model.shifts.blur import defocus, motion, zoom
from model.shifts.warp import Floats, grid, sampled, smooth_noise
from model.shifts.weather import fog, frost, snow

STRENGTHS = (1, 2, 3, 4, 5)
_ELASTIC_CELLS = 6  # across a picture


@dataclass(frozen=True)
class Corruption:
    """`change` takes float32 [n, H, W, C] in [0, 1] and one of the five `amounts`, the weakest first."""

    change: Callable[[Floats, float, np.random.Generator], Floats]
    amounts: tuple[float, float, float, float, float]


def corrupted(pixels: Pixels, name: str, strength: int, generator: np.random.Generator) -> Pixels:
    """uint8 [n, H, W, C], C 1 or 3, under the corruption of that name at a strength of 1 to 5."""
    one = CORRUPTIONS[name]
    changed = one.change(to_floats(pixels), one.amounts[strength - 1], generator)
    return to_bytes(changed)


def to_floats(pixels: Pixels) -> Floats:
    """uint8 in 0..255 as float32 in [0, 1]."""
    return pixels.astype(np.float32) / np.float32(255)


def to_bytes(pictures: Floats) -> Pixels:
    """float32 as uint8, what is beyond [0, 1] cut off."""
    return cast(Pixels, np.rint(pictures.clip(0, 1) * 255).astype(np.uint8))


def _gaussian_noise(pictures: Floats, deviation: float, generator: np.random.Generator) -> Floats:
    noise = generator.standard_normal(pictures.shape, dtype=np.float32)
    return pictures + np.float32(deviation) * noise


def _shot_noise(pictures: Floats, photons: float, generator: np.random.Generator) -> Floats:
    """As many photons as white has, on average."""
    return cast(Floats, (generator.poisson(pictures * photons) / photons).astype(np.float32))


def _impulse_noise(pictures: Floats, share: float, generator: np.random.Generator) -> Floats:
    """So many of the values become 0 or 1."""
    drawn = generator.random(pictures.shape, dtype=np.float32)
    return np.where(drawn < share, np.float32(0), pictures) + (drawn < share / 2)


def _brightness(pictures: Floats, amount: float, _: np.random.Generator) -> Floats:
    return pictures + np.float32(amount)


def _contrast(pictures: Floats, factor: float, _: np.random.Generator) -> Floats:
    mean = pictures.mean(axis=(1, 2, 3), keepdims=True)
    return cast(Floats, mean + (pictures - mean) * np.float32(factor))


def _saturate(pictures: Floats, factor: float, _: np.random.Generator) -> Floats:
    """Colors further from their grey, or nearer to it below 1; a grey picture's values, further from the middle."""
    if pictures.shape[3] == 1:
        return np.float32(0.5) + (pictures - np.float32(0.5)) * np.float32(max(factor, 1 / factor) ** 0.5)
    grey = pictures.mean(axis=3, keepdims=True)
    return cast(Floats, grey + (pictures - grey) * np.float32(factor))


def _elastic(pictures: Floats, amplitude: float, generator: np.random.Generator) -> Floats:
    """Every point is moved by a smooth random field, by up to `amplitude` of the side either way."""
    count, height, width, _ = pictures.shape
    rows, columns = grid(height, width)
    most = np.float32(2 * amplitude * min(height, width))
    moved = [(smooth_noise(generator, (count, height, width), _ELASTIC_CELLS) - 0.5) * most for _ in range(2)]
    return sampled(pictures, rows + moved[0], columns + moved[1])


def _pixelate(pictures: Floats, share: float, _: np.random.Generator) -> Floats:
    """Means of squares, so many along a side as `share` of its pixels."""
    for axis in (1, 2):
        side = pictures.shape[axis]
        squares = np.arange(side) * max(1, round(side * share)) // side
        starts = np.flatnonzero(np.diff(squares, prepend=-1))
        sizes = np.diff(starts, append=side)
        sums = np.add.reduceat(pictures, starts, axis=axis)
        pictures = cast(Floats, sums.repeat(sizes, axis=axis) / _along(sizes, axis))
    return pictures


def _along(sizes: NDArray[np.int64], axis: int) -> Floats:
    """Of every pixel the size of its square, shaped to divide [n, H, W, C] along an axis."""
    return np.expand_dims(sizes.repeat(sizes).astype(np.float32), tuple(other for other in range(4) if other != axis))


def _jpeg(pictures: Floats, quality: float, _: np.random.Generator) -> Floats:
    return to_floats(np.stack([_through_jpeg(picture, round(quality)) for picture in to_bytes(pictures)]))


def _through_jpeg(pixels: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image).reshape(pixels.shape)


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian noise": Corruption(_gaussian_noise, (0.04, 0.07, 0.11, 0.16, 0.22)),
    "shot noise": Corruption(_shot_noise, (80, 40, 20, 12, 7)),
    "impulse noise": Corruption(_impulse_noise, (0.02, 0.04, 0.07, 0.12, 0.18)),
    "defocus blur": Corruption(defocus, (0.015, 0.022, 0.03, 0.04, 0.05)),
    "motion blur": Corruption(motion, (0.05, 0.08, 0.11, 0.15, 0.2)),
    "zoom blur": Corruption(zoom, (0.08, 0.14, 0.2, 0.27, 0.35)),
    "snow": Corruption(snow, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "frost": Corruption(frost, (0.2, 0.35, 0.5, 0.65, 0.8)),
    "fog": Corruption(fog, (0.3, 0.6, 1.0, 1.5, 2.2)),
    "brightness": Corruption(_brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption(_contrast, (0.6, 0.45, 0.3, 0.2, 0.12)),
    "elastic": Corruption(_elastic, (0.02, 0.035, 0.05, 0.07, 0.09)),
    "pixelate": Corruption(_pixelate, (0.7, 0.58, 0.46, 0.36, 0.27)),
    "jpeg": Corruption(_jpeg, (40, 25, 15, 10, 6)),
    "saturate": Corruption(_saturate, (0.6, 0.4, 3.0, 5.0, 9.0)),
}
