"""What decoding a picture costs, known before it is paid: memory, passes over its pixels, reads of its file.

A file of a few bytes may declare anything, and one of many may be nothing but headers. Knows what Pillow says of an
opened picture; decodes nothing.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from app.decoding import jpeg, tiff, tiff_kinds, webp
from app.decoding.jpeg import Scans
from app.errors import BadImage, TooManyPixels
from app.system.quota import Quota
from model import color_profiles

_MAX_READS = 100_000  # headers and chunks that Pillow takes one by one, in Python; real files have thousands
_MAX_TAG_BYTES = 512 << 10  # of TIFF or EXIF tags, whose values become Python objects
_PROFILE_READS = 2  # Pillow reads the first directory of a TIFF, with what its tags point to, twice
_MAX_COPIED_BYTES = 256_000_000  # of a TIFF's strips on their way to pixels, which may all be the same ones
_MAX_SIDE = 65_535  # as in a JPEG or GIF: what it takes to resize goes by the longer side, too
_LOOK_AGAIN_S = 0.005  # for memory that another process gives back

# Bytes for each pixel at the worst moment between the file and uint8 [H, W, C], measured; what others take is less.
_BYTES_PER_PIXEL = {"1": 12, "L": 12, "P": 14, "RGB": 14, "I": 36, "F": 38}
_OTHER_BYTES_PER_PIXEL = 18  # transparency, CMYK
_DECODERS_OWN = {"WEBP": 8, "TIFF": 4}
_RUN_LENGTHS_OWN = 4  # unrolled before Pillow has them
_LOADED_TWICE = 8  # where 16 bits of a color are compared with a transparent one
_COEFFICIENT_BYTES = 2  # a JPEG of several scans keeps all its coefficients, at full size

_JPEG_SPEED = 8  # times as many pixels of a JPEG are decoded in the same time, at worst, as of a PNG

_SCANLESS = ("PNG", "WEBP", "GIF", "BMP")
_ONE_SCAN = Scans(1)
_EXIF = b"Exif\x00\x00"
_TIFF_BYTE_ORDERS = (b"II", b"MM")


class TakesLong(Exception):
    """A picture that is no fault, and takes longer to decode than was asked for."""


def is_soon_read(payload: bytes) -> bool:
    """Whether a file can do without MeteredFile's counting, which costs more than what else is done to a small one.

    Pillow reads no byte of a file twice, except of a TIFF: its tags may all have the same bytes for values.
    """
    return len(payload) <= _MAX_READS and payload[:2] not in _TIFF_BYTE_ORDERS


class MeteredFile(io.BytesIO):
    """A file in memory that counts its reads, and refuses to be read for ever. Raises BadImage."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self._is_tiff = payload[:2] in _TIFF_BYTE_ORDERS
        self.reads = self._tag_bytes = self._held_bytes = self._copied_bytes = 0
        self._opened = False
        self._profile_reads = _PROFILE_READS
        self._profile = tiff_kinds.profile_place(payload) if self._is_tiff else None

    def opened(self) -> None:
        """The tags have been read; what follows are pixels."""
        self._opened = True

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO's."""
        self.reads += 1
        if self.reads > _MAX_READS:
            raise BadImage(f"The file is in more than {_MAX_READS} pieces, the most expected.")
        at = self.tell()
        block = super().read(size)
        if self._opened and self._is_tiff:
            self._count_copies(len(block))
        if not self._opened and (self._is_tiff or block.startswith(_EXIF)):
            self._tag_bytes += 0 if self._is_profile(at, block) else len(block)
            if self._tag_bytes > _MAX_TAG_BYTES:
                raise BadImage(f"The file has more than {_MAX_TAG_BYTES} bytes of tags, the most expected.")
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As BytesIO's."""
        self._held_bytes = 0
        return super().seek(offset, whence)

    def _is_profile(self, at: int, block: bytes) -> bool:
        """Whether a block is the color profile, which stays bytes, read no more often than Pillow does."""
        if self._profile != (at, len(block)) or not self._profile_reads or len(block) > color_profiles.MAX_BYTES:
            return False
        self._profile_reads -= 1
        return True

    def _count_copies(self, count: int) -> None:
        """Pillow puts each block of a strip behind those before, until the strip is whole, and copies them all."""
        self._held_bytes += count
        self._copied_bytes += self._held_bytes
        if self._copied_bytes > _MAX_COPIED_BYTES:
            raise BadImage(
                f"The strips of the file take more than {_MAX_COPIED_BYTES} bytes of reading, the most expected."
            )


class DecodeBudget:
    """Bytes that all threads of all processes share. A thread that needs more than is left waits.

    A thread of this process tells the others when it gives some back. Those of other processes cannot, so that whoever
    may be waiting for them looks again and again: the memory of a picture is held for longer than a look is apart.
    """

    def __init__(self, room: Quota) -> None:
        self.capacity_bytes = room.limit
        self._room = room
        self._freed = threading.Condition()
        self._look_again_s = _LOOK_AGAIN_S if room.processes > 1 else None

    @contextmanager
    def taken(self, count: int, *, waits: bool = True) -> Iterator[None]:
        """Hold `count` bytes, at most the capacity, meanwhile. Raises TakesLong where one that never waits has to."""
        with self._freed:
            while not self._room.try_take(count):
                if not waits:
                    raise TakesLong
                self._freed.wait(self._look_again_s)
        try:
            yield
        finally:
            with self._freed:
                self._room.give(count)
                self._freed.notify_all()


def expect_few_pixels(image: Image.Image, max_pixels: int) -> None:
    """Raises TooManyPixels where the header declares more, be it in one tile of a TIFF."""
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(f"The picture declares {width} x {height} pixels; expected at most {max_pixels} in all.")
    if max(width, height) > _MAX_SIDE:
        raise TooManyPixels(f"The picture declares {width} x {height} pixels; expected at most {_MAX_SIDE} to a side.")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        width, height = _tile_size(image)
        if width * height > max_pixels:
            raise TooManyPixels(
                f"The picture declares tiles of {width} x {height} pixels; expected at most {max_pixels} in one."
            )


def expect_few_scans(image: Image.Image, scans: Scans) -> None:
    """Raises TooManyPixels where a JPEG goes over its pixels too often for what that takes."""
    width, height = image.size
    if scans.number * scans.weight * width * height > tiff.MAX_PIXEL_PASSES:
        weighed = f", each of which counts {scans.weight} times" if scans.weight > 1 else ""
        raise TooManyPixels(
            f"The picture has {scans.number} scans of {width} x {height} pixels{weighed}; "
            f"expected at most {tiff.MAX_PIXEL_PASSES} pixels in all of them."
        )


def expect_affordable(image: Image.Image, payload: bytes) -> Scans:
    """Raises TooManyPixels or BadImage where decoding takes too long, however few the pixels are.

    Returns: how often the file goes over them: once, except in some JPEG files.
    """
    if image.format in _SCANLESS:
        return _ONE_SCAN
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tiff.expect_affordable(image, payload)
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return _ONE_SCAN
    scans = jpeg.scans(payload)
    expect_few_scans(image, scans)
    return scans


def expect_little_work(image: Image.Image, scans: Scans, most_pixels: float) -> None:
    """Raises TakesLong where decoding takes longer than so many pixels of a PNG do: 40 to 50 ns each at worst."""
    width, height = image.size
    passes = scans.number * scans.weight / _JPEG_SPEED if isinstance(image, JpegImagePlugin.JpegImageFile) else 1
    if width * height * passes > most_pixels:
        raise TakesLong


def decoding_bytes(image: Image.Image) -> int:
    """Memory, in bytes, for an opened picture and everything on its way to pixels."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile_width, tile_height = _tile_size(image)
        width, height = max(width, tile_width), max(height, tile_height)
    per_pixel = _BYTES_PER_PIXEL.get(image.mode.partition(";")[0], _OTHER_BYTES_PER_PIXEL)
    per_pixel += _DECODERS_OWN.get(image.format or "", 0)
    if image.format == "PNG" and image.mode == "RGB" and "transparency" in image.info:
        per_pixel += _LOADED_TWICE
    if has_run_lengths(image):
        per_pixel += _RUN_LENGTHS_OWN
    return width * height * per_pixel


def tables_bytes(image: Image.Image, payload: bytes) -> int:
    """Memory, in bytes, that a lossless WebP takes for its codes besides. Raises BadImage."""
    return webp.tables_bytes(payload) if image.format == "WEBP" and len(payload) > webp.SMALL_BYTES else 0


def has_run_lengths(image: Image.Image) -> bool:
    """Whether it is a BMP that Pillow would decode in Python, run by run."""
    if image.format != "BMP" or not isinstance(image, ImageFile.ImageFile):  # which takes longer to tell
        return False
    return bool(image.tile) and image.tile[0].codec_name == "bmp_rle"


def coefficient_bytes(image: Image.Image, scans: int) -> int:
    """Memory, in bytes, that a JPEG of several scans takes besides, at whatever scale it is decoded."""
    if scans == 1 or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 0
    width, height = image.size
    return width * height * image.layers * _COEFFICIENT_BYTES


def _tile_size(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """Width and height in pixels; (0, 0) where the picture has no tiles."""
    width, height = image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0), image.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
