"""Pixels as nested lists of a JSON body -> uint8 [H, W, C]. Knows no protocol."""

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    height, width, channels = *shape, *([1] if len(shape) == 2 else [])
    return _bytes_of(level, where).reshape(height, width, channels)


def _bytes_of(numbers: list[Any], where: str) -> NDArray[np.uint8]:
    try:
        if float not in set(map(type, numbers)):
            return np.frombuffer(bytes(numbers), dtype=np.uint8)
        exact = np.array(numbers, dtype=np.float64)
    except (ValueError, OverflowError):
        raise BadImage(f"{where} has numbers below 0 or above 255; {_EXPECTED}.") from None
    if exact.min() < 0 or exact.max() > 255:
        raise BadImage(f"{where} has numbers below 0 or above 255; {_EXPECTED}.")
    if exact.max() <= 1 and ((exact > 0) & (exact < 1)).any():
        raise BadImage(f"{where} has fractions and nothing above 1, as if divided by 255; {_EXPECTED}.")
    return np.rint(exact).astype(np.uint8)
