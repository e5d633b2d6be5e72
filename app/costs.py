"""What decoding a picture costs, known before it is paid: memory, passes over its pixels, reads of its file.

A file of a few bytes may declare anything, and one of many may be nothing but headers. Knows what Pillow says of an
opened picture; decodes nothing.
"""

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from app.errors import BadPicture, TooManyPixels
from app.quota import Quota

_MAX_READS = 100_000  # headers and chunks that Pillow takes one by one, in Python; real files have thousands
_MAX_READS_OF_RUNS = 500_000  # a BMP compressed by run lengths is read run by run
_MAX_TAG_BYTES = 512 << 10  # of TIFF or EXIF tags, whose values become Python objects
_MAX_SEGMENTS = 10_000  # of a JPEG
_MAX_PIXEL_PASSES = 1_000_000_000  # scans x pixels of a JPEG: about a second of work
_LOOK_AGAIN_S = 0.005  # for memory that another process gives back

# Bytes for each pixel at the worst moment between the file and uint8 [H, W, C], measured; what others take is less.
_BYTES_PER_PIXEL = {"1": 12, "L": 12, "P": 14, "RGB": 14, "I": 36, "F": 38}
_OTHER_BYTES_PER_PIXEL = 18  # transparency, CMYK
_DECODERS_OWN = {"WEBP": 8, "TIFF": 4}
_RUN_LENGTHS_OWN = 24  # decoded in Python: time, rather than memory
_COEFFICIENT_BYTES = 2  # a JPEG of several scans keeps all its coefficients, at full size

_EXIF = b"Exif\x00\x00"
_TIFF_BYTE_ORDERS = (b"II", b"MM")
_BMP = b"BM"
# Markers with a length behind them, and the end: no stuffed byte, restart or fill byte, nor the one that means nothing.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START_OF_IMAGE_BYTES = 2
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"
_SEQUENTIAL_FRAMES = (b"\xc0", b"\xc1", b"\xc9")  # baseline, extended, arithmetic
_CHANNELS_OF_FRAME, _CHANNELS_OF_SCAN = 7, 2  # where a segment counts them, after its marker


def is_soon_read(payload: bytes) -> bool:
    """Whether a file can do without PictureFile's counting, which costs more than what else is done to a small one.

    Pillow reads no byte of a file twice, except of a TIFF: its tags may all have the same bytes for values.
    """
    return len(payload) <= _MAX_READS and payload[:2] not in _TIFF_BYTE_ORDERS


class PictureFile(io.BytesIO):
    """A file in memory that counts its reads, and refuses to be read for ever. Raises BadPicture."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self._is_tiff = payload[:2] in _TIFF_BYTE_ORDERS
        self._max_reads = _MAX_READS_OF_RUNS if payload[:2] == _BMP else _MAX_READS
        self.reads = self._tag_bytes = 0
        self._opened = False

    def opened(self) -> None:
        """The tags have been read; what follows are pixels."""
        self._opened = True

    def read(self, size: int | None = -1, /) -> bytes:
        """As BytesIO's."""
        self.reads += 1
        if self.reads > self._max_reads:
            raise BadPicture(f"The file is in more than {self._max_reads} pieces, the most expected.")
        block = super().read(size)
        if not self._opened and (self._is_tiff or block.startswith(_EXIF)):
            self._tag_bytes += len(block)
            if self._tag_bytes > _MAX_TAG_BYTES:
                raise BadPicture(f"The file has more than {_MAX_TAG_BYTES} bytes of tags, the most expected.")
        return block


class Memory:
    """Bytes that all threads of all processes share. Whoever needs more than is left waits.

    A thread of this process tells the others when it gives some back. Those of other processes cannot, so that whoever
    may be waiting for them looks again and again: the memory of a picture is held for longer than a look is apart.
    """

    def __init__(self, room: Quota) -> None:
        self.capacity_bytes = room.limit
        self._room = room
        self._freed = threading.Condition()
        self._look_again_s = _LOOK_AGAIN_S if room.processes > 1 else None

    @contextmanager
    def taken(self, count: int) -> Iterator[None]:
        """Hold `count` bytes, at most the capacity, meanwhile."""
        with self._freed:
            while not self._room.try_take(count):
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
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        width, height = _tile_size(image)
        if width * height > max_pixels:
            raise TooManyPixels(
                f"The picture declares tiles of {width} x {height} pixels; expected at most {max_pixels} in one."
            )


def expect_few_scans(image: Image.Image, scans: int) -> None:
    """Raises TooManyPixels where a JPEG goes over its pixels too often."""
    width, height = image.size
    if scans * width * height > _MAX_PIXEL_PASSES:
        raise TooManyPixels(
            f"The picture has {scans} scans of {width} x {height} pixels; "
            f"expected at most {_MAX_PIXEL_PASSES} pixels in all of them."
        )


def scans_of(image: Image.Image, payload: bytes) -> int:
    """How often the file goes over the pixels: 1, except in some JPEG files.

    Where the first scan of a sequential JPEG has all the channels, libjpeg goes no further, and neither does this.

    Raises: BadPicture for a JPEG with no end of segments.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    scans, channels = 0, b""
    for marker, segment in _segments(payload):
        if marker in _SEQUENTIAL_FRAMES:
            channels = segment[_CHANNELS_OF_FRAME : _CHANNELS_OF_FRAME + 1]
        elif marker == _START_OF_SCAN:
            scans += 1
            if scans == 1 and channels and segment[_CHANNELS_OF_SCAN : _CHANNELS_OF_SCAN + 1] == channels:
                return 1
    return max(1, scans)


def decoding_bytes(image: Image.Image) -> int:
    """Memory, in bytes, for an opened picture and everything on its way to pixels."""
    width, height = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile_width, tile_height = _tile_size(image)
        width, height = max(width, tile_width), max(height, tile_height)
    per_pixel = _BYTES_PER_PIXEL.get(image.mode.partition(";")[0], _OTHER_BYTES_PER_PIXEL)
    per_pixel += _DECODERS_OWN.get(image.format or "", 0)
    if isinstance(image, ImageFile.ImageFile) and image.tile and image.tile[0].codec_name == "bmp_rle":
        per_pixel += _RUN_LENGTHS_OWN
    return width * height * per_pixel


def coefficient_bytes(image: Image.Image, scans: int) -> int:
    """Memory, in bytes, that a JPEG of several scans takes besides, at whatever scale it is decoded."""
    if scans == 1 or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 0
    width, height = image.size
    return width * height * image.layers * _COEFFICIENT_BYTES


def _segments(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The marker of every segment of a JPEG and its first bytes, up to the end of the image. Raises BadPicture."""
    at = _START_OF_IMAGE_BYTES
    for _ in range(_MAX_SEGMENTS):
        marker = _JPEG_MARKER.search(payload, at)
        if marker is None or marker[1] == _END_OF_IMAGE:
            return
        segment = payload[marker.end() : marker.end() + _CHANNELS_OF_FRAME + 1]
        yield marker[1], segment
        at = marker.end() + int.from_bytes(segment[:2])
    raise BadPicture(f"The JPEG has more than {_MAX_SEGMENTS} segments, the most expected.")


def _tile_size(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """Width and height in pixels; (0, 0) where the picture has no tiles."""
    width, height = image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0), image.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
