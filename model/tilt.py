"""By how much a thing is turned: what a spec's Tilt says of a square. Knows nothing of how it was learned."""

import base64
import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.spec import Tilt

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Layers = tuple[tuple[Floats, Floats], ...]
"""Of each its matrix [in, out] and its bias [out]."""

_KEPT = 8  # of the last Tilts, their layers


def degrees_of(squares: Pixels, tilt: Tilt) -> Floats:
    """By how much the things in uint8 [n, H, W, C] are turned, counterclockwise: float32 [n].

    A thing and its mirror image are turned by the same angle to either side; half the difference of what is said of
    them errs less than either.
    """
    seen = small(squares, math.isqrt(tilt.sizes[0]))
    values = np.concatenate([seen, seen[:, :, ::-1]]).reshape(2 * len(seen), -1)
    *hidden, (matrix, bias) = layers_of(tilt)
    values *= np.float32(1 / 255)
    for weights, offsets in hidden:
        values = values @ weights
        values += offsets
        np.maximum(values, 0, out=values)
    said = (values @ matrix + bias)[:, 0]
    return np.asarray((said[: len(seen)] - said[len(seen) :]) / 2, np.float32)


def small(squares: Pixels, side: int) -> Floats:
    """Uint8 [n, H, W, C] as a Tilt takes them: grey, the mean over each of its pixels, float32 [n, side, side]."""
    step, left = divmod(squares.shape[1], side)
    if left or squares.shape[3] != 1:
        return np.stack([_small(square, side) for square in squares]).astype(np.float32)
    grey = squares[..., 0]
    if step == 1:
        return grey.astype(np.float32)
    rows = np.add.reduce(grey.reshape(len(grey), side, step, -1), 2, dtype=np.float32)
    means = np.add.reduce(rows.reshape(len(grey), side, side, step), 3) * np.float32(1 / step**2)
    return np.asarray(means, np.float32)


def layers_of(tilt: Tilt) -> Layers:
    """The weights as matrices."""
    return _layers(tilt.sizes, tilt.weights)


def packed(layers: Layers, beyond: float) -> Tilt:
    """Those layers as a Tilt, rounded to float16."""
    parts = [part.ravel() for matrix, bias in layers for part in (matrix.T, bias)]
    raw = np.concatenate(parts).astype("<f2").tobytes()
    sizes = (len(layers[0][0]), *(len(bias) for _, bias in layers))
    return Tilt(beyond=beyond, sizes=sizes, weights=base64.b64encode(raw).decode())


def _small(square: Pixels, side: int) -> Pixels:
    image = Image.fromarray(square[:, :, 0]) if square.shape[2] == 1 else Image.fromarray(square).convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


@lru_cache(maxsize=_KEPT)
def _layers(sizes: tuple[int, ...], weights: str) -> Layers:
    numbers = np.frombuffer(base64.b64decode(weights), "<f2").astype(np.float32)
    found, start = [], 0
    for inputs, outputs in pairwise(sizes):
        middle, end = start + inputs * outputs, start + (inputs + 1) * outputs
        matrix = np.ascontiguousarray(numbers[start:middle].reshape(outputs, inputs).T)
        found.append((matrix, numbers[middle:end]))
        start = end
    return tuple(found)
