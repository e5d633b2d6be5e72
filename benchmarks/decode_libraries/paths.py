"""From a picture file to patches: the service's way, Pillow's alone, and what other libraries are put into.

A library comes behind the service's own checks of the header unless it is bare: an option would keep them. Colors of a
profile, EXIF orientation, transparency and 16 bits a sample are left out: pictures with them would go Pillow's way.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from app.decoding import cost_checks, decoder
from app.decoding.decoder import DecodeLimits, decode
from model.framing import central_box, image_of, values_of
from model.preprocess import patchify, smallest_useful_side, to_patches
from model.spec import ModelSpec

Pixels = NDArray[np.uint8]
Way = Callable[[bytes, ModelSpec], Pixels]  # of a picture file: to uint8 [S, P*P*C]
Decode = Callable[[bytes, "Head", int], Pixels]  # a file, its head, the channels: to uint8 [H, W, C]

TODAY = "today"
BOTH = ("JPEG", "PNG")
LIMITS = DecodeLimits(64 << 20, 50_000_000)


@dataclass(frozen=True)
class Head:
    """What is known of a file before it is decoded. scale: 8, 4, 2 or 1, of a JPEG, as the service chooses it."""

    width: int
    height: int
    scale: int
    is_jpeg: bool


@dataclass(frozen=True)
class Library:
    """One way from a file to patches.

    resize: whose filter, in words. kinds: of the files that it reads. any_fit: whether it fits a picture as any spec
    wants it; the others know a central square alone.
    """

    name: str
    resize: str
    kinds: tuple[str, ...]
    way: Way
    any_fit: bool = True

    def can(self, kind: str, spec: ModelSpec) -> bool:
        """Whether it makes patches of such files for such a spec."""
        return kind in self.kinds and (self.any_fit or is_plain(spec))


def today(payload: bytes, spec: ModelSpec) -> Pixels:
    """The service's path."""
    return to_patches(decode(payload, spec.channels, smallest_useful_side(spec), LIMITS), spec)


def pillow(payload: bytes, spec: ModelSpec, reducing_gap: float | None = None) -> Pixels:
    """Pillow without checks, and without a copy between decoding and resizing. A JPEG at the service's scale."""
    with Image.open(io.BytesIO(payload)) as image:
        if isinstance(image, ImageFile.ImageFile) and image.format == "JPEG":
            scale = decoder._scale(image.size, smallest_useful_side(spec))
            image.draft("L" if spec.channels == 1 else "RGB", (image.width // scale, image.height // scale))
            image.decodermaxblock = max(image.decodermaxblock, len(payload))
        flat = image.convert("L" if spec.channels == 1 else "RGB")
    if not is_plain(spec):
        return to_patches(values_of(flat).reshape(flat.height, flat.width, spec.channels), spec)
    side, box = spec.image_size, central_box(*flat.size, spec.fit.crop_percentage)
    resample = Image.Resampling[spec.interpolation.upper()]
    square = flat.resize((side, side), resample, box, reducing_gap)
    return patchify(values_of(square).reshape(side, side, spec.channels), spec.patch_size)


def pillow_with_gap(payload: bytes, spec: ModelSpec) -> Pixels:
    """As above; a large picture is first averaged to twice the size that is wanted."""
    return pillow(payload, spec, 2.0)


def head_of(payload: bytes, spec: ModelSpec, *, bare: bool) -> Head:
    """By Pillow's reading of the header, with the checks of app/decoding unless `bare`. Raises as decode does."""
    with Image.open(io.BytesIO(payload)) if bare else decoder._opened(payload) as image:
        if not bare:
            cost_checks.expect_few_pixels(image, LIMITS.max_pixels)
            cost_checks.expect_affordable(image, payload)
        is_jpeg = image.format == "JPEG"
        scale = decoder._scale(image.size, smallest_useful_side(spec)) if is_jpeg else 1
        return Head(*image.size, scale, is_jpeg)


def is_plain(spec: ModelSpec) -> bool:
    """Whether the square is a central part that is resized, and nothing more."""
    return spec.fit.mode == "crop" and spec.fit.background == "any"


def whole_box(width: int, height: int, percentage: float) -> tuple[int, int, int, int]:
    """The central square in whole pixels, for resizers that know no others: left, top, width, height."""
    left, top, right, bottom = (round(edge) for edge in central_box(width, height, percentage))
    return left, top, right - left, bottom - top


def pillows_resize(decoded: Decode, bare: bool) -> Way:
    """Another decoder, then the service's own way from pixels to patches."""

    def way(payload: bytes, spec: ModelSpec) -> Pixels:
        return to_patches(decoded(payload, head_of(payload, spec, bare=bare), spec.channels), spec)

    return way


def own_resize(decoded: Decode, resize: Callable[[Pixels, int, str], Pixels], bare: bool) -> Way:
    """Another decoder and its resizer, for a central square."""

    def way(payload: bytes, spec: ModelSpec) -> Pixels:
        pixels = decoded(payload, head_of(payload, spec, bare=bare), spec.channels)
        left, top, width, height = whole_box(pixels.shape[1], pixels.shape[0], spec.fit.crop_percentage)
        part = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        square = resize(part, spec.image_size, spec.interpolation).reshape(spec.image_size, spec.image_size, -1)
        return patchify(square, spec.patch_size)

    return way


def in_channels(pixels: Pixels, channels: int) -> Pixels:
    """uint8 [H, W] or [H, W, C] -> uint8 [H, W, channels], by Pillow where the number differs."""
    whole = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
    if whole.shape[2] == channels:
        return whole
    flat = image_of(whole).convert("L" if channels == 1 else "RGB")
    return values_of(flat).reshape(flat.height, flat.width, channels)
