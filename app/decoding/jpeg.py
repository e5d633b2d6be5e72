"""What a JPEG stream holds, told from its markers: segments, tables, scans. Decodes nothing, knows no other format."""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from app.errors import BadImage

# So many times as long as Huffman's does a pass of arithmetic coding take, at worst, measured.
ARITHMETIC_WEIGHT = 15

_MAX_SEGMENTS = 10_000
_MAX_SEGMENTS_BEFORE_FRAME = 100  # of each of thousands of streams; a colour profile of 3 MB takes 46
_MAX_TABLE_BYTES = 512 << 10  # of segments whose values become Python objects; cameras write a few thousand

# Markers with a length behind them, and the end: no stuffed byte, restart or fill byte, nor the one that means nothing.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
# Those that Pillow reads on the way to the first scan. It takes the others for markers without a length.
_READ_BY_PILLOW = re.compile(rb"\xff([\xc0-\xc7\xc9-\xcf\xda-\xef\xfe])")
# Frames (all that begin like one), quantisation tables, hierarchies, and the blocks of Photoshop.
_TABLES = frozenset(bytes([code]) for code in (*range(0xC0, 0xD0), 0xDB, 0xDE, 0xED)) - {b"\xc4", b"\xc8", b"\xcc"}
_FRAMES = _TABLES - {b"\xdb", b"\xde", b"\xed"}
_USUAL_BITS, _USUAL_CHANNELS = 8, (1, 3, 4)
_START_OF_IMAGE_BYTES = 2
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"
_SEQUENTIAL_FRAMES = (b"\xc0", b"\xc1", b"\xc9")  # baseline, extended, arithmetic
_ARITHMETIC_FRAMES = (b"\xc9", b"\xca")
_ARITHMETIC_FRAME = re.compile(rb"\xff[\xc9-\xcb\xcd-\xcf]")
_CHANNELS_OF_FRAME, _CHANNELS_OF_SCAN = 7, 2  # where a segment counts them, after its marker
_BITS_OF_FRAME = 2
_SIDES_OF_FRAME = struct.Struct(">HH")  # height and width, behind the bits


class Scans(NamedTuple):
    """How often a stream goes over its pixels, and by how much longer one such pass takes than one of Huffman codes."""

    number: int
    weight: int = 1


def expect_few_tables(payload: bytes) -> None:
    """Raises BadImage where what comes before the first scan would take long to read."""
    at, total = _START_OF_IMAGE_BYTES, 0
    for _ in range(_MAX_SEGMENTS):
        marker = _READ_BY_PILLOW.search(payload, at)
        if marker is None or marker[1] == _START_OF_SCAN:
            return
        length = max(2, int.from_bytes(payload[marker.end() : marker.end() + 2]))
        total += length if marker[1] in _TABLES else 0
        if total > _MAX_TABLE_BYTES:
            raise BadImage(f"The JPEG has more than {_MAX_TABLE_BYTES} bytes of tables, the most expected.")
        at = marker.end() + length
    raise BadImage(f"The JPEG has more than {_MAX_SEGMENTS} segments, the most expected.")


def unsupported(payload: bytes) -> str | None:
    """What is unusual about the samples of a JPEG, if they are, in words."""
    with suppress(BadImage):
        for marker, segment in _segments(payload):
            if marker in _FRAMES and len(segment) > _CHANNELS_OF_FRAME:
                bits, channels = segment[_BITS_OF_FRAME], segment[_CHANNELS_OF_FRAME]
                usual = bits == _USUAL_BITS and channels in _USUAL_CHANNELS
                return None if usual else f"{channels} channels of {bits} bits"
    return None


def scans(payload: bytes) -> Scans:
    """Of a whole JPEG.

    Where the first scan of a sequential JPEG has all the channels, libjpeg goes no further, and neither does this. What
    arithmetic coding costs goes by the channel, so that such a scan counts as one of each.

    Raises: BadImage for a JPEG with no end of segments.
    """
    number, weight, channels = 0, 1, b""
    for marker, segment in _segments(payload):
        if marker in _ARITHMETIC_FRAMES:
            weight = ARITHMETIC_WEIGHT
        if marker in _SEQUENTIAL_FRAMES:
            channels = segment[_CHANNELS_OF_FRAME : _CHANNELS_OF_FRAME + 1]
        elif marker == _START_OF_SCAN:
            number += 1
            if number == 1 and channels and segment[_CHANNELS_OF_SCAN : _CHANNELS_OF_SCAN + 1] == channels:
                return Scans(channels[0] if weight > 1 else 1, weight)
    return Scans(max(1, number), weight)


def most_scans(payload: bytes, start: int, end: int) -> Scans:
    """The scans of a stream between two offsets of a file: never too few, and faster than following them."""
    weight = ARITHMETIC_WEIGHT if _ARITHMETIC_FRAME.search(payload, start, end) else 1
    return Scans(max(1, payload.count(b"\xff" + _START_OF_SCAN, start, end)), weight)


def frame_pixels(payload: bytes, start: int, end: int) -> int:
    """Width x height of the stream between two offsets of a file; 0 where no frame says.

    Raises: BadImage where too much comes before the frame.
    """
    for number, (marker, segment) in enumerate(_segments(payload[start:end])):
        if number >= _MAX_SEGMENTS_BEFORE_FRAME:
            raise BadImage(
                f"A JPEG in the file has more than {_MAX_SEGMENTS_BEFORE_FRAME} segments before its frame, "
                "the most expected."
            )
        if marker in _FRAMES and len(segment) > _CHANNELS_OF_FRAME:
            height, width = _SIDES_OF_FRAME.unpack_from(segment, _BITS_OF_FRAME + 1)
            return int(height * width)
    return 0


def whole_segments(payload: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """The marker of every segment of a JPEG, all its bytes, and where they end. Raises BadImage."""
    at = _START_OF_IMAGE_BYTES
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(payload, at)
        if marker is None or marker[1] == _END_OF_IMAGE:
            return
        at = marker.end() + int.from_bytes(payload[marker.end() : marker.end() + 2])
        yield marker[1], payload[marker.end() : at], at
    raise BadImage(f"The JPEG has more than {_MAX_SEGMENTS} segments, the most expected.")


def _segments(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The marker of every segment of a JPEG and its first bytes, up to the end of the image. Raises BadImage."""
    for marker, segment, _ in whole_segments(payload):
        yield marker, segment[: _CHANNELS_OF_FRAME + 1]
