"""What a picture file of some kind shows, and the scene that all of them show. Knows no format and no decoder."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # pixels; each of the four quadrants of the scene has one colour
Color = tuple[int, int, int]
Integers = NDArray[np.int64]

WHITE: Color = (255, 255, 255)
GREYS = (0, 85, 170, 255)  # all of them are whole numbers at every depth but one bit
COLORS: tuple[Color, ...] = ((255, 0, 0), (0, 255, 85), (0, 85, 255), (170, 170, 170))
OPACITIES = (255, 0, 85, 170)


class Kind(NamedTuple):
    """A file, and the colours of its quadrants from left to right and top to bottom, or words of its refusal."""

    name: str
    payload: bytes
    seen: tuple[Color, ...] | str
    tolerance: int = 0


def grey(*levels: int) -> tuple[Color, ...]:
    """Those levels as colours."""
    return tuple((level, level, level) for level in levels)


def over_white(colors: tuple[Color, ...], opacities: tuple[int, ...] = OPACITIES) -> tuple[Color, ...]:
    """What shows of colours of those opacities, 0..255, on a white page."""
    return tuple(
        (_blend(red, opacity), _blend(green, opacity), _blend(blue, opacity))
        for (red, green, blue), opacity in zip(colors, opacities, strict=True)
    )


def _blend(level: int, opacity: int) -> int:
    return round((level * opacity + 255 * (255 - opacity)) / 255)


def quadrants(values: tuple[object, ...], side: int = SIDE) -> Integers:
    """int64 [side, side, S]: one value, or one tuple of S values, for each quadrant."""
    four = np.array(values, np.int64).reshape(2, 2, -1)
    return four.repeat(side // 2, axis=0).repeat(side // 2, axis=1)


def packed(samples: Integers, bits: int, *, big_endian: bool = True) -> bytes:
    """Samples [H, W, S] as rows of so many bits a sample, each row in whole bytes, the highest bit first.

    big_endian: the order of the bytes of a sample of 16 bits or more.
    """
    if bits >= 16 and bits % 16 == 0:
        return samples.astype(f"{'>' if big_endian else '<'}u{bits // 8}").tobytes()
    rows = samples.reshape(samples.shape[0], -1, 1) >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(rows.reshape(samples.shape[0], -1).astype(np.uint8), axis=1).tobytes()
