"""What each library makes of a picture file: uint8 patches, as the service makes them. Knows no clocks or engines.

A library is imported when it is asked for, so that one that is not installed is missing alone. Each comes behind the
service's own checks of the header unless `bare`: an option would keep them. Colors of a profile, EXIF orientation,
transparency and 16 bits a sample are left out: pictures that have them would go Pillow's way.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from app.decoding import cost_checks, decoder
from app.decoding.decoder import DecodeLimits, decode
from model.framing import central_box, image_of, values_of
from model.preprocess import patchify, smallest_useful_side, to_patches
from model.spec import ModelSpec

Pixels = NDArray[np.uint8]
Path = Callable[[bytes, ModelSpec], Pixels]  # of a picture file: to uint8 [S, P*P*C]
Decode = Callable[[bytes, "Head", int], Pixels]  # a file, its head, the channels: to uint8 [H, W, C]

TODAY = "today"
LIMITS = DecodeLimits(64 << 20, 50_000_000)
_OPENCV_REDUCED = {1: 0, 2: 16, 4: 32, 8: 64}  # IMREAD_REDUCED_GRAYSCALE_N, to which a color is added


@dataclass(frozen=True)
class Missing:
    """A library that cannot be used here, and why, in one line."""

    reason: str


@dataclass(frozen=True)
class Head:
    """What is known of a file before it is decoded. scale: 8, 4, 2 or 1, of a JPEG, as the service chooses it."""

    width: int
    height: int
    scale: int
    is_jpeg: bool


@dataclass(frozen=True)
class Library:
    """One way from a file to patches. resize: whose filter, in words. kinds: of the files that it reads."""

    name: str
    resize: str
    kinds: tuple[str, ...]
    path: Path


def libraries(*, bare: bool = False) -> Iterator[Library | Missing]:
    """All that can be used here, the service's own path first, and of each other why it cannot."""
    yield Library(TODAY, "Pillow", ("JPEG", "PNG"), today)
    yield Library("Pillow, bare", "Pillow", ("JPEG", "PNG"), pillow)
    yield Library("Pillow, bare, reducing_gap 2", "Pillow, after a box", ("JPEG", "PNG"), pillow_with_gap)
    for make in (_simplejpeg, _turbojpeg, _pyvips, _kornia, _imagecodecs, _opencv):
        try:
            yield from make(bare)
        except (ImportError, OSError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            yield Missing(f"{make.__name__.lstrip('_')}: {reason}")


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


def _pillows_resize(decoded: Decode, bare: bool) -> Path:
    """Another decoder, then the service's own way from pixels to patches."""

    def path(payload: bytes, spec: ModelSpec) -> Pixels:
        return to_patches(decoded(payload, head_of(payload, spec, bare=bare), spec.channels), spec)

    return path


def _own_resize(decoded: Decode, resize: Callable[[Pixels, int, str], Pixels], bare: bool) -> Path:
    """Another decoder and its resizer; where the spec asks for more than a central square, the service's own way."""

    def path(payload: bytes, spec: ModelSpec) -> Pixels:
        pixels = decoded(payload, head_of(payload, spec, bare=bare), spec.channels)
        if not is_plain(spec):
            return to_patches(pixels, spec)
        left, top, width, height = whole_box(pixels.shape[1], pixels.shape[0], spec.fit.crop_percentage)
        part = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        square = resize(part, spec.image_size, spec.interpolation).reshape(spec.image_size, spec.image_size, -1)
        return patchify(square, spec.patch_size)

    return path


def _in_channels(pixels: Pixels, channels: int) -> Pixels:
    """uint8 [H, W] or [H, W, C] -> uint8 [H, W, channels], by Pillow where the number differs."""
    whole = pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
    if whole.shape[2] == channels:
        return whole
    flat = image_of(whole).convert("L" if channels == 1 else "RGB")
    return values_of(flat).reshape(flat.height, flat.width, channels)


# --- the libraries ---


def _simplejpeg(bare: bool) -> Iterator[Library]:
    import simplejpeg  # noqa: PLC0415

    def decoder_of(**options: bool) -> Decode:
        def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
            least = (-(-head.height // head.scale), -(-head.width // head.scale))
            space = "GRAY" if channels == 1 else "RGB"
            return simplejpeg.decode_jpeg(payload, space, min_height=least[0], min_width=least[1], **options)

        return decoded

    yield Library("simplejpeg", "Pillow", ("JPEG",), _pillows_resize(decoder_of(), bare))
    fast = decoder_of(fastdct=True, fastupsample=True)
    yield Library("simplejpeg, fast DCT and upsampling", "Pillow", ("JPEG",), _pillows_resize(fast, bare))


def _turbojpeg(bare: bool) -> Iterator[Library]:
    import turbojpeg  # noqa: PLC0415

    library = turbojpeg.TurboJPEG()

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        kind = turbojpeg.TJPF_GRAY if channels == 1 else turbojpeg.TJPF_RGB
        return library.decode(payload, kind, (1, head.scale))

    yield Library("PyTurboJPEG", "Pillow", ("JPEG",), _pillows_resize(decoded, bare))


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
        return _in_channels(opened(payload, head, channels).numpy(), channels)

    def kernel(payload: bytes, spec: ModelSpec) -> Pixels:
        head = head_of(payload, spec, bare=bare)
        if not is_plain(spec):
            return to_patches(decoded(payload, head, spec.channels), spec)
        image = opened(payload, head, spec.channels)
        left, top, width, height = whole_box(image.width, image.height, spec.fit.crop_percentage)
        name = {"bilinear": "linear", "bicubic": "cubic"}[spec.interpolation]
        part = image.crop(left, top, width, height)
        square = part.resize(spec.image_size / width, vscale=spec.image_size / height, kernel=name).numpy()
        return patchify(_in_channels(square, spec.channels), spec.patch_size)

    def thumbnail(payload: bytes, spec: ModelSpec) -> Pixels:
        head = head_of(payload, spec, bare=bare)
        if not is_plain(spec):
            return to_patches(decoded(payload, head, spec.channels), spec)
        side = round(spec.image_size / spec.fit.crop_percentage)
        image = pyvips.Image.thumbnail_buffer(payload, side, height=side, crop="centre", no_rotate=True)
        inset = (side - spec.image_size) // 2
        square = image.crop(inset, inset, spec.image_size, spec.image_size).numpy()
        return patchify(_in_channels(square, spec.channels), spec.patch_size)

    yield Library("pyvips, thumbnail", "its own, lanczos3, at twice the size", ("JPEG", "PNG"), thumbnail)
    yield Library("pyvips, load and resize", "its own, of the same name", ("JPEG", "PNG"), kernel)


def _kornia(bare: bool) -> Iterator[Library]:
    from kornia_rs import imgproc  # noqa: PLC0415
    from kornia_rs import io as kornia_io  # noqa: PLC0415

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        mode = "mono" if channels == 1 else "rgb"
        if head.is_jpeg:
            return _in_channels(kornia_io.decode_image_jpegturbo(payload, mode), channels)
        return _in_channels(kornia_io.decode_image_png_u8(payload, (head.height, head.width), mode), channels)

    def resize(pixels: Pixels, side: int, interpolation: str) -> Pixels:
        return imgproc.resize(pixels, (side, side), interpolation, antialias=True)

    both = ("JPEG", "PNG")
    yield Library("kornia-rs", "Pillow", both, _pillows_resize(decoded, bare))
    words = "its own: bicubic with antialias, bilinear without"
    yield Library("kornia-rs, all of it", words, both, _own_resize(decoded, resize, bare))


def _imagecodecs(bare: bool) -> Iterator[Library]:
    import imagecodecs  # noqa: PLC0415

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        read = imagecodecs.jpeg8_decode if head.is_jpeg else imagecodecs.png_decode
        return _in_channels(read(payload), channels)

    def by_spng(payload: bytes, _: Head, channels: int) -> Pixels:
        return _in_channels(imagecodecs.spng_decode(payload), channels)

    yield Library("imagecodecs", "Pillow", ("JPEG", "PNG"), _pillows_resize(decoded, bare))
    yield Library("imagecodecs, libspng", "Pillow", ("PNG",), _pillows_resize(by_spng, bare))


def _opencv(bare: bool) -> Iterator[Library]:
    import cv2  # noqa: PLC0415

    cv2.setNumThreads(1)

    def decoded(payload: bytes, head: Head, channels: int) -> Pixels:
        color = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
        flags = _OPENCV_REDUCED[head.scale] | color | cv2.IMREAD_IGNORE_ORIENTATION
        return _in_channels(cv2.imdecode(np.frombuffer(payload, np.uint8), flags), channels)

    def resize(pixels: Pixels, side: int, _: str) -> Pixels:
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)

    both = ("JPEG", "PNG")
    yield Library("opencv", "Pillow", both, _pillows_resize(decoded, bare))
    yield Library("opencv, all of it", "its own, INTER_AREA", both, _own_resize(decoded, resize, bare))
