"""What a hidden patch shows instead of the picture. Knows nothing of which patches are hidden."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

from app.engine.runners import Patches
from model.preprocess import Pixels, patchify, unpatchify


def _mean(square: Pixels, _: int) -> Pixels:
    return _filled(square, square.reshape(-1, square.shape[2]).mean(axis=0))


def _border(square: Pixels, _: int) -> Pixels:
    edges = np.concatenate([square[0], square[-1], square[1:-1, 0], square[1:-1, -1]])
    return _filled(square, np.median(edges, axis=0))


def _blur(square: Pixels, patch_size: int) -> Pixels:
    grey = square.shape[2] == 1
    image = Image.fromarray(square[:, :, 0] if grey else square)
    blurred = image.filter(ImageFilter.GaussianBlur(patch_size))
    return np.asarray(blurred, dtype=np.uint8).reshape(square.shape)


def _filled(square: Pixels, color: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> Pixels:
    return np.broadcast_to(color.round().astype(np.uint8), square.shape)


BASELINES: Mapping[str, Callable[[Pixels, int], Pixels]] = {"mean": _mean, "border": _border, "blur": _blur}


def baseline_of(patches: Patches, patch_size: int, name: str) -> Patches:
    """What stands for each patch of uint8 [S, P*P*C] where it is hidden; the same shape.

    name: `mean`, the mean color of the square that the model sees; `border`, the median color of its outermost pixels;
    `blur`, the square itself under a Gaussian blur with a standard deviation of a patch's side.
    """
    return patchify(BASELINES[name](unpatchify(patches, patch_size), patch_size), patch_size)
