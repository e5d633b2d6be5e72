"""Pictures that are of no class: noise, gradients, stripes, text. Made from a generator; knows no files or models."""

import string
from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.preprocess import Pixels
from model.shifts.corruptions import to_bytes
from model.shifts.warp import Floats, grid

Shape = tuple[int, int, int, int]  # n, H, W, C


def _noise(generator: np.random.Generator, shape: Shape) -> Pixels:
    return cast(Pixels, generator.integers(0, 256, shape, dtype=np.uint8))


def _gradients(generator: np.random.Generator, shape: Shape) -> Pixels:
    """From one random color to another, in a random direction."""
    phase = _phase(generator, shape)[..., np.newaxis] + np.float32(0.5)
    first, last = generator.random((2, shape[0], 1, 1, shape[3]), dtype=np.float32)
    return to_bytes(first + (last - first) * phase.clip(0, 1))


def _stripes(generator: np.random.Generator, shape: Shape) -> Pixels:
    """Waves of two random colors, two to eight across the picture, in a random direction."""
    waves = generator.uniform(2, 8, (shape[0], 1, 1)).astype(np.float32)
    share = (0.5 + 0.5 * np.sin(2 * np.pi * waves * _phase(generator, shape)))[..., np.newaxis]
    first, last = generator.random((2, shape[0], 1, 1, shape[3]), dtype=np.float32)
    return to_bytes(first + (last - first) * share)


def _text(generator: np.random.Generator, shape: Shape) -> Pixels:
    """Random letters in three lines, of one random color on another."""
    count, height, width, channels = shape
    font = ImageFont.load_default(max(8, height // 4))
    letters = list(string.ascii_letters + string.digits)
    pictures = []
    for _ in range(count):
        colors = generator.integers(0, 256, (2, channels)).tolist()
        background, ink = (color[0] if channels == 1 else tuple(color) for color in colors)
        image = Image.new("L" if channels == 1 else "RGB", (width, height), background)
        lines = "\n".join("".join(generator.choice(letters, 8)) for _ in range(3))
        ImageDraw.Draw(image).multiline_text((0, 0), lines, fill=ink, font=font, spacing=0)
        pictures.append(np.asarray(image).reshape(height, width, channels))
    return np.stack(pictures)


def _phase(generator: np.random.Generator, shape: Shape) -> Floats:
    """How far each pixel lies along a random direction, about -0.5 to 0.5: float32 [n, H, W]."""
    count, height, width, _ = shape
    rows, columns = grid(height, width)
    angle = generator.uniform(0, 2 * np.pi, (count, 1, 1))
    return cast(Floats, (rows / height * np.sin(angle) + columns / width * np.cos(angle)).astype(np.float32))


UNFAMILIAR: Mapping[str, Callable[[np.random.Generator, Shape], Pixels]] = {
    "noise": _noise,
    "gradients": _gradients,
    "stripes": _stripes,
    "text": _text,
}
