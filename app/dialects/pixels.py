"""Pixels as nested lists of a JSON body -> uint8 [H, W, C]. Knows no protocol."""

from itertools import chain
from typing import Any

import numpy as np

from app.errors import BadImage
from model.preprocess import Pixels

_EXPECTED = "expected pixels as lists [height][width] or [height][width][1 or 3] of numbers from 0 to 255"


def pixels_of(rows: list[Any], where: str) -> Pixels:
    """Numbers [H][W] or [H][W][C], each from 0 to 255 -> uint8 [H, W, C]. `where`: their name. Raises BadImage.

    Nothing is converted before all of it is known to be numbers.
    """
    shape, level = [len(rows)], rows
    while len(shape) < 4 and set(map(type, level)) == {list}:
        lengths = set(map(len, level))
        if len(lengths) > 1:
            raise BadImage(f"{where} has lists of {min(lengths)} and of {max(lengths)} side by side; {_EXPECTED}.")
        shape += lengths
        level = list(chain.from_iterable(level))
    if len(shape) not in (2, 3) or not set(map(type, level)) <= {int, float}:
        raise BadImage(f"{where} has lists {len(shape)} deep, or something else than numbers in them; {_EXPECTED}.")
    _expect_bytes(level, where)
    height, width, channels = *shape, *([1] if len(shape) == 2 else [])
    return np.rint(np.array(level, dtype=np.float64)).astype(np.uint8).reshape(height, width, channels)


def _expect_bytes(numbers: list[Any], where: str) -> None:
    lowest, highest = min(numbers, default=0), max(numbers, default=0)
    if lowest < 0 or highest > 255:
        raise BadImage(f"{where} has numbers below 0 or above 255; {_EXPECTED}.")
    if highest <= 1 and any(0 < number < 1 for number in numbers):
        raise BadImage(f"{where} has fractions and nothing above 1, as if divided by 255; {_EXPECTED}.")
