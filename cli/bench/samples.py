"""Pictures to measure with, as files in memory: the user's, or generated. Knows nothing of clocks or engines."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.errors import BadSettings, ServiceError

_COUNT = 8  # generated ones, so that no decoder sees the same bytes every time
_MOST = 256  # of the user's
_SMALL = 64  # up to this image_size, generated pictures have the model's own size
_PHOTOGRAPH = (500, 375)  # width and height, common for photographs on the web
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Samples:
    """Picture files, and their description."""

    files: tuple[bytes, ...]
    description: str

    @property
    def mean_bytes(self) -> int:
        """Size of a file on average."""
        return round(sum(map(len, self.files)) / len(self.files))


def generated(image_size: int, channels: int) -> Samples:
    """PNGs in the model's size where that is small, else JPEG photographs of 500 x 375: the same ones every time."""
    if image_size <= _SMALL:
        images = [scene(image_size, image_size, channels, seed) for seed in range(_COUNT)]
        kind = "grey" if channels == 1 else "color"
        return Samples(tuple(_file(one, "PNG") for one in images), f"{image_size}x{image_size} {kind} PNG, generated")
    width, height = _PHOTOGRAPH
    images = [scene(width, height, 3, seed) for seed in range(_COUNT)]
    files = tuple(_file(one, "JPEG", quality=_JPEG_QUALITY) for one in images)
    return Samples(files, f"{width}x{height} JPEG, generated")


def read(folder: Path, decode: Callable[[bytes], object]) -> Samples:
    """The first 256 pictures below `folder` that `decode` takes; other files are passed over.

    Raises: BadSettings where there are none.
    """
    if not folder.is_dir():
        raise BadSettings(f"--pictures is {folder}; expected a folder.")
    payloads = (path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
    files = tuple(islice((payload for payload in payloads if _is_image(payload, decode)), _MOST))
    if not files:
        raise BadSettings(f"--pictures is {folder}, which holds no pictures.")
    return Samples(files, f"{len(files)} from {folder}")


def _is_image(payload: bytes, decode: Callable[[bytes], object]) -> bool:
    try:
        decode(payload)
    except ServiceError:
        return False
    return True


def scene(width: int, height: int, channels: int, seed: int) -> Image.Image:
    """Detail at every scale, the finer the fainter, as in a photograph: noise of many grain sizes, one over another."""
    generator = np.random.default_rng(seed)
    light: NDArray[np.float64] = np.full((height, width, channels), 128.0)
    grain = max(width, height)
    while grain >= 1:
        coarse = generator.normal(size=(-(-height // grain), -(-width // grain), channels))
        light += 8.0 * grain**0.4 * _enlarged(coarse, width, height)
        grain //= 2
    pixels = light.clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def _enlarged(coarse: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(coarse, 2, 0)]
    smooth = [np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(smooth, axis=2).astype(np.float64)


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
