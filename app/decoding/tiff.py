"""What the strips or tiles of an opened TIFF cost: each is a stream of its own, and all may be the same bytes.

Knows what Pillow says of the tags, and how libtiff and Pillow read; decodes nothing.
"""

import struct
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from math import ceil
from typing import NamedTuple

from PIL import TiffImagePlugin

from app.decoding import jpeg
from app.errors import BadImage, TooManyPixels

MAX_PIXEL_PASSES = 700_000_000  # scans x pixels of a JPEG: up to one and a half seconds of work

_MAX_STRIPS = 50_000  # each costs some microseconds, whatever it holds; scanners write one a row
_MAX_JPEG_STRIPS = 10_000  # each of them has a decoder of its own
_MAX_TILE_PIXELS = 100_000_000  # tiles may be far larger than the picture
# Of strips beyond the file: many may be the same empty one. A megabyte of deflated blocks that hold no pixel takes
# 70 ms, and one of JPEG tables 1 ms.
_MAX_SHARED_BYTES, _MAX_SHARED_JPEG_BYTES = 8_000_000, 100_000_000
_MAX_ZSTD_BYTES = 8_000_000  # in all strips: tables for every 16 bytes take 220 ms a megabyte
_OLD_JPEG, _JPEG, _ZSTD = 6, 7, 50_000

_COMPRESSION, _PLANES = 259, 284
_WIDTH, _HEIGHT, _SAMPLES, _ROWS = 256, 257, 277, 278
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_JPEG_AT, _JPEG_LENGTH = 513, 514
# Tags whose value must be the same for Pillow and libtiff: each once, in a type that both of them read.
_DECISIVE = {_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _ROWS, _PLANES, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES}
_DECISIVE |= {TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH, _JPEG_AT, _JPEG_LENGTH}
_WHOLE_NUMBERS = (3, 4, 16)  # SHORT, LONG, LONG8


class _Pieces(NamedTuple):
    """Strips or tiles: the pixels of one, how many there are, and where: (offset, bytes) of each."""

    pixels: int
    number: int
    ranges: list[tuple[int, int]]


def expect_affordable(image: TiffImagePlugin.TiffImageFile, payload: bytes) -> None:
    """Raises BadImage or TooManyPixels where the strips of a TIFF are too many, too large, or gone over too often."""
    _expect_plain(payload, image.tag_v2.offset)
    pieces = _pieces(image, payload)
    compression = image.tag_v2.get(_COMPRESSION, 1)
    is_jpeg = compression in (_OLD_JPEG, _JPEG)
    most = _MAX_JPEG_STRIPS if is_jpeg else _MAX_STRIPS
    if pieces.number > most:
        raise BadImage(f"The TIFF has {pieces.number} strips or tiles; expected at most {most}.")
    if pieces.number * pieces.pixels > _MAX_TILE_PIXELS:
        raise TooManyPixels(
            f"The TIFF has {pieces.number} strips or tiles of {pieces.pixels} pixels; "
            f"expected at most {_MAX_TILE_PIXELS} pixels in all of them."
        )
    if compression == 1:
        return  # Pillow reads it; MeteredFile counts
    total = sum(length for _, length in pieces.ranges)
    most_bytes = len(payload) + (_MAX_SHARED_JPEG_BYTES if is_jpeg else _MAX_SHARED_BYTES)
    if compression == _ZSTD:
        most_bytes = _MAX_ZSTD_BYTES
    if total > most_bytes:
        raise BadImage(
            f"The strips or tiles of the TIFF have {total} bytes in all; the file has {len(payload)}, "
            f"and at most {most_bytes} are expected."
        )
    if compression == _JPEG:
        _expect_few_scans(pieces, payload)
    elif compression == _OLD_JPEG:
        _expect_few_scans(pieces._replace(ranges=[(0, len(payload))] * max(1, pieces.number)), payload)


def _expect_few_scans(pieces: _Pieces, payload: bytes) -> None:
    """The JPEG in the last strip may be taller than the strip, and is decoded up to 65,535 rows all the same."""
    places = set(pieces.ranges)
    of = {place: jpeg.most_scans(payload, place[0], sum(place)) for place in places}
    declared = {place: jpeg.frame_pixels(payload, place[0], sum(place)) for place in places}
    passes = sum(of[place].number * of[place].weight * max(pieces.pixels, declared[place]) for place in pieces.ranges)
    if passes > MAX_PIXEL_PASSES:
        scans, most = sum(of[place].number for place in pieces.ranges), max(pieces.pixels, *declared.values())
        raise TooManyPixels(
            f"The TIFF has {scans} JPEG scans of {most} pixels in its strips or tiles, which cost as much as "
            f"{passes} pixels; expected at most {MAX_PIXEL_PASSES}."
        )


def _pieces(image: TiffImagePlugin.TiffImageFile, payload: bytes) -> _Pieces:
    tags = image.tag_v2
    width, height = _whole(tags.get(_WIDTH)), _whole(tags.get(_HEIGHT))
    if TiffImagePlugin.TILEWIDTH in tags:
        piece_width = _whole(tags[TiffImagePlugin.TILEWIDTH])
        piece_height = _whole(tags.get(TiffImagePlugin.TILELENGTH))
    else:
        piece_width, piece_height = width, min(height, _whole(tags.get(_ROWS)) or height)
    if not (piece_width and piece_height):
        raise BadImage(f"The TIFF has strips or tiles of {piece_width} x {piece_height} pixels; expected more.")
    planes = _whole(tags.get(_SAMPLES)) if tags.get(_PLANES) == 2 else 1
    number = ceil(width / piece_width) * ceil(height / piece_height) * max(1, planes)
    ranges = list(_ranges(tags, len(payload)))
    return _Pieces(piece_width * piece_height, max(number, len(ranges)), ranges)


def _ranges(tags: Mapping[int, object], file_bytes: int) -> Iterator[tuple[int, int]]:
    """Where every strip or tile is. One that does not say how long it is may go on to the end of the file."""
    offsets = (*_all(tags.get(_STRIPS)), *_all(tags.get(_TILES)))
    lengths = (*_all(tags.get(_STRIP_BYTES)), *_all(tags.get(_TILE_BYTES)))
    for offset, length in zip_longest(offsets, lengths[: len(offsets)], fillvalue=0):
        left = max(0, file_bytes - offset)
        yield offset, min(length or left, left) if offset else 0


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _all(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(one for one in values if isinstance(one, int))


def _expect_plain(payload: bytes, at: int) -> None:
    """Raises BadImage where Pillow and libtiff might read a decisive tag differently."""
    seen = set()
    for tag, kind in _directory(payload, at):
        if tag not in _DECISIVE:
            continue
        if tag in seen:
            raise BadImage(f"The TIFF has tag {tag} more than once; expected one.")
        if kind not in _WHOLE_NUMBERS:
            raise BadImage(f"Tag {tag} of the TIFF has type {kind}; expected one of {_WHOLE_NUMBERS}.")
        seen.add(tag)


def _directory(payload: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Tag and type of every entry of the directory at that offset."""
    order = "<" if payload[:2] == b"II" else ">"
    is_big = payload[2:4] in (b"+\0", b"\0+")
    count, entry, size = ("Q", "HH16x", 20) if is_big else ("H", "HH8x", 12)
    start = at + struct.calcsize(order + count)
    (entries,) = struct.unpack(order + count, payload[at:start])
    end = min(start + size * entries, len(payload))
    yield from struct.iter_unpack(order + entry, payload[start : end - (end - start) % size])
