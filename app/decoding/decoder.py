"""Bytes -> pixels, under limits. Knows nothing of models, batches or HTTP."""

import io
import math
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from app.decoding import bmp, cost_checks, cut_jpeg, jpeg, png, tiff_kinds, webp
from app.decoding.cost_checks import DecodeBudget, MeteredFile, TakesLong
from app.decoding.not_an_image import what_it_is
from app.errors import BadImage, OutOfMemory, ServiceError, TooManyBytes, TooManyPixels, UnsupportedFormat
from app.system.quota import Quota
from model import color_profiles, samples
from model.preprocess import Pixels, is_on_its_side, to_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_JPEG, _BMP, _RIFF = b"\xff\xd8\xff", b"BM", b"RIFF"
_NO_RAW_MODE, _NO_BMP = "unknown raw mode", "Unsupported BMP"  # Pillow's words for kinds that it does not know
_TRUNCATED = "image file is truncated"
_ACCEPTED = "JPEG, PNG, WebP, GIF, BMP or TIFF"
_MEMORY_BYTES = 350_000_000  # half of it, for one picture, is enough for an RGB PNG of 12 million pixels
_MAX_EXIF_BYTES = 512 << 10
MARGIN = 1.25  # a large JPEG is decoded at no less than so many times the size it is resized to
_MOST_SQUEEZED = 1 / 8  # and squeezed by no more than that part of a pixel of that size

# Files that people do upload, recognised only to be named in the refusal.
_FOREIGN = {
    "PDF": (0, b"%PDF"),
    "SVG": (0, b"<svg"),
    "PSD": (0, b"8BPS"),
    "HEIC": (4, b"ftyphei"),
    "HEIF": (4, b"ftypmif1"),
    "AVIF": (4, b"ftypavif"),
    "JPEG XL": (0, b"\xff\x0a"),
    "JPEG 2000": (4, b"jP  \r\n\x87\n"),
    "ICO": (0, b"\x00\x00\x01\x00"),
    "MP4": (4, b"ftyp"),
    "ZIP": (0, b"PK\x03\x04"),
}


@dataclass(frozen=True)
class DecodeLimits:
    """Largest file in bytes, most pixels its header may declare, and the memory that all decoding threads share.

    One picture may take half of that memory. reduced_scale: whether large JPEGs are decoded at a fraction of their
    size. waits: for memory; one that does not raises TakesLong in its place.
    """

    max_bytes: int
    max_pixels: int
    budget: DecodeBudget = field(default_factory=lambda: DecodeBudget(Quota(_MEMORY_BYTES)))
    reduced_scale: bool = True
    waits: bool = True


def decode(
    payload: bytes, channels: int, useful_side: int, limits: DecodeLimits, most_work: float = math.inf
) -> Pixels:
    """Decode the first frame of a picture file.

    payload: a JPEG, PNG, WebP, GIF, BMP or TIFF file. useful_side: pixels of the shorter side beyond which detail is
    lost on the model anyway; a large JPEG is decoded at reduced scale, but at no less than MARGIN times this.
    most_work: pixels of a PNG that take as long as this picture may.

    Returns: uint8 [H, W, channels], RGB or grey.
    Raises: TooManyBytes, TooManyPixels (before anything is decoded: too many, too often, or too much memory),
    UnsupportedFormat, BadImage, OutOfMemory; TakesLong, before anything is decoded, for more than `most_work`, or where
    `limits` do not let it wait.
    """
    if len(payload) > limits.max_bytes:
        raise TooManyBytes(f"The picture has {len(payload)} bytes; expected at most {limits.max_bytes}.")
    if not payload:
        raise BadImage("The picture has 0 bytes; expected an image file.")
    try:
        whole = webp.padded(payload) if payload.startswith(_RIFF) else payload
        return _decoded(whole, channels, useful_side, limits, most_work)
    except (ServiceError, TakesLong):
        raise
    except Image.DecompressionBombError:
        raise TooManyPixels(
            f"The picture declares far more than {limits.max_pixels} pixels, the most expected."
        ) from None
    except MemoryError:
        raise OutOfMemory(
            "The picture was not decoded: the service has no memory left for it. Try again later."
        ) from None
    except Exception as error:  # hostile bytes raise almost anything inside a decoder
        if _is_of_no_known_mode(error) and (kind := _unsupported(payload)) is not None:
            raise UnsupportedFormat(kind) from error
        what = what_it_is(payload)
        words = f"The picture cannot be decoded: {_reason(error)}" if what is None else _instead(what)
        raise BadImage(words) from error


def upload_size(payload: bytes, decoded: Pixels) -> tuple[int, int]:
    """Width and height of a picture file as it is meant to be seen.

    Its header is read again. `decoded`: its pixels [H, W, C]; where a JPEG's are a fraction of them, and may have
    become square, its orientation says which is which. Raises as decode does.
    """
    with _opened(webp.padded(payload) if payload.startswith(_RIFF) else payload) as image:
        width, height = image.size
        is_whole = decoded.shape[:2] in ((height, width), (width, height))
        is_turned = decoded.shape[:2] != (height, width) if is_whole else is_on_its_side(image)
    return (height, width) if is_turned else (width, height)


def _decoded(payload: bytes, channels: int, useful_side: int, limits: DecodeLimits, most_work: float) -> Pixels:
    try:
        return _decoded_as_it_is(payload, channels, useful_side, limits, most_work)
    except OSError as error:
        is_cut = payload.startswith(_JPEG) and str(error).startswith(_TRUNCATED)
        if not is_cut or not _lacks_only_its_end(payload, limits):
            raise
    return _decoded_as_it_is(cut_jpeg.with_end(payload), channels, useful_side, limits, most_work)


def _lacks_only_its_end(payload: bytes, limits: DecodeLimits) -> bool:
    with _opened(payload) as image:
        scans = cost_checks.expect_affordable(image, payload)
        if not cut_jpeg.is_soon_told(image.width * image.height, scans):
            return False
        needed = cost_checks.coefficient_bytes(image, scans.number) + cost_checks.decoding_bytes(image)
    with limits.budget.taken(needed, waits=limits.waits):
        return cut_jpeg.lacks_only_its_end(payload)


def _decoded_as_it_is(
    payload: bytes, channels: int, useful_side: int, limits: DecodeLimits, most_work: float
) -> Pixels:
    with _opened(payload) as image:
        cost_checks.expect_few_pixels(image, limits.max_pixels)
        scans = cost_checks.expect_affordable(image, payload)
        cost_checks.expect_little_work(image, scans, most_work)
        declared, coefficient_bytes = image.size, cost_checks.coefficient_bytes(image, scans.number)
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            scale = _scale(declared, useful_side) if limits.reduced_scale else 1
            is_grey = channels == 1 and not color_profiles.matters(image.info.get("icc_profile"))
            image.draft("L" if is_grey else "RGB", (declared[0] // scale, declared[1] // scale))
        needed = coefficient_bytes + cost_checks.decoding_bytes(image) + cost_checks.tables_bytes(image, payload)
        most = limits.budget.capacity_bytes // 2
        if needed > most:
            raise TooManyPixels(
                f"The picture declares {declared[0]} x {declared[1]} pixels in mode {image.mode}, which take "
                f"{needed} bytes of memory to decode; expected at most {most}."
            )
        with limits.budget.taken(needed, waits=limits.waits):
            if len(image.tile) == 1:  # in one piece: after every piece, a thread waits until it may run Python again
                image.decodermaxblock = max(image.decodermaxblock, len(payload))
            if image.format == "TIFF" and isinstance(image, TiffImagePlugin.TiffImageFile):
                image.is_animated = True  # so that Pillow leaves the directories of Exif and GPS unread
            if image.format == "BMP" and bmp.has_opacity_beside_15_bits(payload):
                raise samples.UnsupportedSamples("The BMP has opacity in a pixel of 16 bits.")
            if cost_checks.has_run_lengths(image):
                _unroll(image, payload)
            samples.load(image)
            if len(image.info.get("exif", b"")) > _MAX_EXIF_BYTES:
                del image.info["exif"]  # its tags would take seconds to read, and only one of them counts
            return to_pixels(image, channels)


def _unroll(image: ImageFile.ImageFile, payload: bytes) -> None:
    """Replace the run lengths of a BMP by pixels, which Pillow would take one by one."""
    (tile,) = image.tile
    arguments: Any = tile.args  # a mode, whether a pixel has 4 bits, and which row comes first
    image.fp = io.BytesIO(bmp.unrolled(payload, tile.offset, image.size, halves=arguments[1]))
    raw_mode = "P" if image.mode == "P" else "L"
    image.tile = [tile._replace(codec_name="raw", offset=0, args=(raw_mode, 0, arguments[2]))]


def _scale(size: tuple[int, int], useful_side: int) -> int:
    """By how much a JPEG of that size may be reduced as it is decoded: 8, 4, 2 or 1.

    Where a side is no multiple, its last reduced pixel stands for fewer than the others; all are taken for equal, so
    the picture is squeezed: by a fraction of a pixel, which is enough to change answers about small pictures.
    """
    shorter = min(size)
    for scale in (8, 4, 2):
        missing = max(-side % scale for side in size)
        if shorter >= scale * MARGIN * useful_side and missing * useful_side <= _MOST_SQUEEZED * shorter:
            return scale
    return 1


def _opened(payload: bytes) -> ImageFile.ImageFile:
    file = io.BytesIO(payload) if cost_checks.is_soon_read(payload) else MeteredFile(payload)
    if isinstance(file, MeteredFile) and payload.startswith(_JPEG):
        jpeg.expect_few_tables(payload)
    png.expect_few_unfolding(payload)
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        name = next((name for name, (at, mark) in _FOREIGN.items() if payload[at : at + len(mark)] == mark), None)
        if name is not None:
            raise UnsupportedFormat(f"The file is {name}; expected {_ACCEPTED}.") from None
        if (kind := _unsupported(payload)) is not None:
            raise UnsupportedFormat(kind) from None
        what = what_it_is(payload)
        words = f"The file starts with {payload[:8].hex(' ')} and is no picture; expected {_ACCEPTED}."
        raise BadImage(words if what is None else _instead(what)) from None
    if isinstance(file, MeteredFile):
        file.opened()
    return image


def _unsupported(payload: bytes) -> str | None:
    """What kind of JPEG, BMP or TIFF it is, for one that is whole and cannot be shown."""
    if payload.startswith(_JPEG) and (kind := jpeg.unsupported(payload)) is not None:
        return f"The JPEG has {kind}; expected 1, 3 or 4 channels of 8 bits."
    if payload.startswith(_BMP) and (kind := bmp.kind(payload)) is not None:
        return f"The BMP has {kind}; expected 1, 4, 8, 16, 24 or 32 bits with usual masks."
    if (kind := tiff_kinds.unsupported(payload)) is not None:
        return f"The TIFF has {kind}; no such kind is shown. Expected 8 bits a channel of grey, a palette, RGB or CMYK."
    return None


def _is_of_no_known_mode(error: Exception) -> bool:
    """Whether Pillow knows what the samples are, and not how to show them."""
    words = str(error)
    return isinstance(error, samples.UnsupportedSamples) or words.startswith((_NO_RAW_MODE, _NO_BMP))


def _instead(what: str) -> str:
    return f"The file is {what}; expected {_ACCEPTED}."


def _reason(error: Exception) -> str:
    """The decoder's own words, without memory addresses or paths."""
    words = str(error).split(" <")[0].strip().rstrip(".")
    return f"{words or type(error).__name__}."
