"""The libraries that decode, each put into a path from a file to patches. Knows no clocks or engines.

A library is imported when it is asked for, so that one that is not installed is missing alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.decode_libraries.paths import (
    BOTH,
    TODAY,
    Decode,
    Head,
    Library,
    Pixels,
    head_of,
    in_channels,
    own_resize,
    pillow,
    pillow_with_gap,
    pillows_resize,
    today,
    whole_box,
)
from model.preprocess import patchify
from model.spec import ModelSpec

_OPENCV_REDUCED = {1: 0, 2: 16, 4: 32, 8: 64}  # IMREAD_REDUCED_GRAYSCALE_N, to which a color is added


@dataclass(frozen=True)
class Missing:
    """A library that cannot be used here, and why, in one line."""

    reason: str


def libraries(*, bare: bool = False) -> Iterator[Library | Missing]:
    """All that can be used here, the service's own path first, and of each other why it cannot."""
    yield Library(TODAY, "Pillow", BOTH, today)
    yield Library("Pillow, bare", "Pillow", BOTH, pillow)
    yield Library("Pillow, bare, reducing_gap 2", "Pillow, after a box", BOTH, pillow_with_gap, any_fit=False)
    for make in (_simplejpeg, _turbojpeg, _pyvips, _kornia, _imagecodecs, _opencv):
        try:
            yield from make(bare)
        except (ImportError, OSError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            yield Missing(f"{make.__name__.lstrip('_')}: {reason}")


def _simplejpeg(bare: bool) -> Iterator[Library]:
    import simplejpeg  # noqa: PLC0415

    def decoder_of(**options: bool) -> Decode:
        def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
            least = (-(-head.height // head.scale), -(-head.width // head.scale))
            space = "GRAY" if channels == 1 else "RGB"
            return simplejpeg.decode_jpeg(payload, space, min_height=least[0], min_width=least[1], **options)

        return decoded

    yield Library("simplejpeg", "Pillow", ("JPEG",), pillows_resize(decoder_of(), bare))
    fast = decoder_of(fastdct=True, fastupsample=True)
    yield Library("simplejpeg, fast DCT and upsampling", "Pillow", ("JPEG",), pillows_resize(fast, bare))


def _turbojpeg(bare: bool) -> Iterator[Library]:
    import turbojpeg  # noqa: PLC0415

    library = turbojpeg.TurboJPEG()

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        kind = turbojpeg.TJPF_GRAY if channels == 1 else turbojpeg.TJPF_RGB
        return library.decode(payload, kind, (1, head.scale))

    yield Library("PyTurboJPEG", "Pillow", ("JPEG",), pillows_resize(decoded, bare))


def _pyvips(bare: bool) -> Iterator[Library]:
    import pyvips  # noqa: PLC0415

    pyvips.cache_set_max(0)  # or it would remember what it made of the same file

    def opened(payload: bytes, head: Head, channels: int) -> Any:
        if head.is_jpeg:
            image = pyvips.Image.jpegload_buffer(payload, shrink=head.scale, access="sequential")
        else:
            image = pyvips.Image.pngload_buffer(payload, access="sequential")
        return image.colourspace("b-w") if channels == 1 and image.bands > 1 else image

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        return in_channels(opened(payload, head, channels).numpy(), channels)

    def kernel(payload: bytes, spec: ModelSpec) -> Pixels:
        image = opened(payload, head_of(payload, spec, bare=bare), spec.channels)
        left, top, width, height = whole_box(image.width, image.height, spec.fit.crop_percentage)
        name = {"bilinear": "linear", "bicubic": "cubic"}[spec.interpolation]
        part = image.crop(left, top, width, height)
        square = part.resize(spec.image_size / width, vscale=spec.image_size / height, kernel=name).numpy()
        return patchify(in_channels(square, spec.channels), spec.patch_size)

    def thumbnail(payload: bytes, spec: ModelSpec) -> Pixels:
        head_of(payload, spec, bare=bare)
        side = round(spec.image_size / spec.fit.crop_percentage)
        image = pyvips.Image.thumbnail_buffer(payload, side, height=side, crop="centre", no_rotate=True)
        inset = (side - spec.image_size) // 2
        square = image.crop(inset, inset, spec.image_size, spec.image_size).numpy()
        return patchify(in_channels(square, spec.channels), spec.patch_size)

    yield Library("pyvips", "Pillow", BOTH, pillows_resize(decoded, bare))
    yield Library("pyvips, load and resize", "its own, of the same name", BOTH, kernel, any_fit=False)
    yield Library("pyvips, thumbnail", "its own: lanczos3, loads at twice the size", BOTH, thumbnail, any_fit=False)


def _kornia(bare: bool) -> Iterator[Library]:
    from kornia_rs import imgproc  # noqa: PLC0415
    from kornia_rs import io as kornia_io  # noqa: PLC0415

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        mode = "mono" if channels == 1 else "rgb"
        if head.is_jpeg:
            return in_channels(kornia_io.decode_image_jpegturbo(payload, mode), channels)
        return in_channels(kornia_io.decode_image_png_u8(payload, (head.height, head.width), mode), channels)

    def resize(pixels: Pixels, side: int, interpolation: str) -> Pixels:
        return imgproc.resize(pixels, (side, side), interpolation, antialias=True)

    yield Library("kornia-rs", "Pillow", BOTH, pillows_resize(decoded, bare))
    words = "its own: bicubic with antialias, bilinear without"
    yield Library("kornia-rs, all of it", words, BOTH, own_resize(decoded, resize, bare), any_fit=False)


def _imagecodecs(bare: bool) -> Iterator[Library]:
    import imagecodecs  # noqa: PLC0415

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        read = imagecodecs.jpeg8_decode if head.is_jpeg else imagecodecs.png_decode
        return in_channels(read(payload), channels)

    def by_spng(payload: bytes, _: Head, channels: int) -> Pixels:
        return in_channels(imagecodecs.spng_decode(payload), channels)

    yield Library("imagecodecs", "Pillow", BOTH, pillows_resize(decoded, bare))
    yield Library("imagecodecs, libspng", "Pillow", ("PNG",), pillows_resize(by_spng, bare))


def _opencv(bare: bool) -> Iterator[Library]:
    import cv2  # noqa: PLC0415

    cv2.setNumThreads(1)

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        color = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
        flags = _OPENCV_REDUCED[head.scale] | color | cv2.IMREAD_IGNORE_ORIENTATION
        return in_channels(cv2.imdecode(np.frombuffer(payload, np.uint8), flags), channels)

    def resize(pixels: Pixels, side: int, _: str) -> Pixels:
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)

    yield Library("opencv", "Pillow", BOTH, pillows_resize(decoded, bare))
    yield Library("opencv, all of it", "its own, INTER_AREA", BOTH, own_resize(decoded, resize, bare), any_fit=False)
