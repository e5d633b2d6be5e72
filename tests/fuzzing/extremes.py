"""Small files of extreme shapes: lines one pixel wide, sides of 0 or 65,535, every depth, every way of coding.

What is drawn is small in most cases, and as large as may be in a few: a million files must not take days.
"""

import io
import random
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.fuzzing import seeds  # makes the module below importable

assert seeds
from tests.faults.hostile import (  # noqa: E402
    chunk,
    gif_declaring,
    jpeg_declaring,
    jpeg_of_arithmetic_scans,
    segment,
    webp_declaring,
    webp_of_groups,
)

_LONG_SIDES = (255, 256, 1000, 4096, 16_383, 32_768, 65_500, 65_535)
_ABSURD_SIDES = (0, 65_536, 100_000, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_MOST_REPEATED_BYTES = 1 << 20
MOST_UNFOLDED_BYTES = 1 << 26
_CODED = (b"\0", b"\x3f", b"\x7f", b"\xa5", b"\xff\0")  # what arithmetic decoders find hard, repeated


def size(rng: random.Random) -> tuple[int, int]:
    """Width and height."""
    what = rng.random()
    if what < 0.7:
        return rng.randint(1, 70), rng.randint(1, 70)
    if what < 0.87:
        sides = [rng.choice((1, 1, 2, 3, 7, 8, 9)), rng.choice(_LONG_SIDES)]
        rng.shuffle(sides)
        return sides[0], sides[1]
    if what < 0.95:
        width = rng.choice(_LONG_SIDES)
        return width, max(1, rng.randrange(400_000) // width)
    if what < 0.97:
        width = rng.choice(_LONG_SIDES)
        return width, rng.choice((2_000_000, 12_000_000, 50_000_000)) // width
    sides = [rng.choice(_ABSURD_SIDES), rng.choice((0, 1, 8, *_ABSURD_SIDES))]
    rng.shuffle(sides)
    return sides[0], sides[1]


def repeats(rng: random.Random) -> int:
    """How often something is repeated that a decoder expects once or twice."""
    return rng.choice((2, 2, 2, 2, 2, 3, 16, 16, 16, 300) if rng.random() < 0.97 else (300, 10_000))


def within(times: int, length: int) -> int:
    """So often at most that what is repeated, of that length, takes no longer to make than to decode."""
    return max(1, min(times, _MOST_REPEATED_BYTES // max(1, length)))


def extreme(rng: random.Random) -> bytes:
    """A file of some format."""
    return rng.choice((_png, _png, _jpeg, _arithmetic_jpeg, _gif, _webp, _bmp, _saved, _saved))(rng)


def folded(count: int) -> bytes:
    """At least so many zeros, deflated."""
    return _folded(max(0, count - 1).bit_length())


@cache
def _folded(bits: int) -> bytes:
    return zlib.compress(bytes(1 << bits), 6)


def bomb(rng: random.Random) -> bytes:
    """A deflated stream that unfolds to a lot, and may break off."""
    whole = folded(rng.choice((1000, 100_000, 1 << 20) if rng.random() < 0.95 else (MOST_UNFOLDED_BYTES,)))
    return whole if rng.random() < 0.7 else whole[: rng.randrange(len(whole))] + rng.randbytes(4)


def _png(rng: random.Random) -> bytes:
    width, height = size(rng)
    depth, color = rng.choice(((1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3),
                                   (8, 3), (8, 4), (16, 4), (8, 6), (16, 6), (32, 2), (3, 0), (16, 3)))  # fmt: skip
    interlaced = rng.choice((0, 0, 1, 1, 2))
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    needed = height * (1 + (width * bits + 7) // 8) + interlaced * 15
    pixels = folded(min(needed, MOST_UNFOLDED_BYTES))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    palette = chunk(b"PLTE", rng.randbytes(3 * rng.choice((1, 2, 16, 256, 257)))) if color == 3 else b""
    clear = chunk(b"tRNS", rng.randbytes(rng.choice((1, 2, 6, 256)))) if rng.random() < 0.3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + clear + chunk(b"IDAT", pixels) + chunk(b"IEND")


def _jpeg(rng: random.Random) -> bytes:
    width, height = size(rng)
    return jpeg_declaring(min(width, 65_535), min(height, 65_535))


def _arithmetic_jpeg(rng: random.Random) -> bytes:
    """Of one channel and many scans, or of several channels with factors of their own."""
    width, height = (min(side, 65_535) for side in size(rng))
    coded = rng.choice(_CODED) * rng.choice((1, 100, 2000))
    if rng.random() < 0.5:
        return jpeg_of_arithmetic_scans(width, height, within(repeats(rng), len(coded)), coded)
    frame = rng.choice((0xC9, 0xC9, 0xCA, 0xCB, 0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xCD, 0xCE))
    return jpeg_by_hand(frame, (width, height), rng.choice((1, 3, 4, 4, 2, 5)), coded, rng)


def jpeg_by_hand(frame: int, sides: tuple[int, int], channels: int, coded: bytes, rng: random.Random) -> bytes:
    """A JPEG with that kind of frame, with scans of all channels or of one each."""
    factors = [rng.choice((0x11, 0x11, 0x21, 0x22, 0x41, 0x14, 0x44, 0x33)) for _ in range(channels)]
    parts = b"".join(bytes((number + 1, factor, 0)) for number, factor in enumerate(factors))
    whole = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    whole += segment(frame, struct.pack(">BHHB", rng.choice((8, 8, 8, 12)), sides[1], sides[0], channels) + parts)
    if rng.random() < 0.3:
        whole += segment(0xDD, struct.pack(">H", rng.choice((1, 2, 100))))
    together = bytes((channels,)) + b"".join(bytes((number + 1, 0)) for number in range(channels)) + b"\0\x3f\0"
    if rng.random() < 0.5:
        return whole + segment(0xDA, together) + coded + b"\xff\xd9"
    apart = b"".join(segment(0xDA, bytes((1, number + 1, 0, 0, 63, 0))) + coded for number in range(channels))
    return whole + apart * within(repeats(rng), len(apart)) + b"\xff\xd9"


def _gif(rng: random.Random) -> bytes:
    width, height = size(rng)
    return gif_declaring(min(width, 65_535), min(height, 65_535))


def _webp(rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return _grouped(*rng.choice(((8, 2), (64, 16), (64, 256), (256, 300), (256, 4096))))
    width, height = (max(1, min(side, 16_384)) for side in size(rng))
    return webp_declaring(width, height)


@cache
def _grouped(side: int, groups: int) -> bytes:
    return webp_of_groups(side, groups)


def bmp(rng: random.Random, compression: int, content: bytes = b"") -> bytes:
    """With a header of any of the known lengths."""
    width, height = size(rng)
    length = rng.choice((12, 40, 40, 40, 52, 56, 64, 108, 124))
    bits = rng.choice((0, 1, 2, 4, 8, 16, 24, 24, 32, 32))
    colors = rng.choice((0, 0, 1, 256, 257, 65_535)) if bits <= 8 else 0
    if length == 12:
        header = struct.pack("<IHHHH", 12, width & 0xFFFF, height & 0xFFFF, 1, bits)
    else:
        upside = -1 if rng.random() < 0.3 else 1
        sides = width & 0xFFFFFFFF, height * upside & 0xFFFFFFFF
        header = struct.pack("<IIIHHIIiiII", length, *sides, 1, bits, compression,
                             len(content), 0, 0, colors, 0)  # fmt: skip
        header = (header + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)).ljust(length, b"\0")[:length]
    header += rng.randbytes(4 * min(256, colors or (1 << bits if 0 < bits <= 8 else 0)))
    start = 14 + len(header)
    row = (width * bits + 31) // 32 * 4
    content = content or bytes(min(row * height, 200_000))
    return b"BM" + struct.pack("<IHHI", start + len(content), 0, 0, start) + header + content


def _bmp(rng: random.Random) -> bytes:
    compression = rng.choice((0, 0, 1, 1, 2, 2, 3, 3, 6, 11, 12, 13))
    runs = b"".join(rng.choice(_RUNS) for _ in range(rng.choice((1, 20, 300))))
    return bmp(rng, compression, runs * within(repeats(rng), len(runs)) if compression in (1, 2) else b"")


_RUNS = (b"\xff\0", b"\1\1", b"\0\0", b"\0\2\xff\xff", b"\0\2\0\1", b"\0\4\1\2\3\4", b"\0\xff" + bytes(256), b"\x08\7")


def _saved(rng: random.Random) -> bytes:
    """As Pillow writes it, where it can."""
    width, height = size(rng)
    if not 0 < width * height <= 400_000 or max(width, height) > 65_500:
        width, height = 1, rng.choice((1, 2, 5000))
    kind, mode, options = rng.choice(_WAYS)
    if kind == "WEBP":
        width, height = min(width, 16_383), min(height, 16_383)
    values = np.frombuffer(rng.randbytes(1024), np.uint8)
    image = Image.fromarray(np.resize(values, (height, width))).convert("RGB").convert(mode)
    file = io.BytesIO()
    try:
        image.save(file, kind, **options)
    except OSError:  # lines of one pixel are beyond some encoders
        return _png(rng)
    return file.getvalue()


_WAYS: tuple[tuple[str, str, dict[str, object]], ...] = (
    *(("PNG", mode, {"compress_level": 1}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("JPEG", mode, {"quality": 30}) for mode in ("L", "RGB", "CMYK")),
    *(("JPEG", "RGB", {"quality": 30, "progressive": True, "subsampling": number}) for number in (0, 1, 2)),
    ("JPEG", "RGB", {"restart_marker_blocks": 1}),
    *(("GIF", mode, {"interlace": number}) for mode in ("1", "L", "P") for number in (0, 1)),
    *(("WEBP", mode, {"lossless": lossless, "method": 0}) for mode in ("RGB", "RGBA") for lossless in (False, True)),
    *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB")),
    *(("TIFF", "RGB", {"compression": name}) for name in ("tiff_lzw", "packbits", "jpeg", "zstd", "lzma")),
    *(("TIFF", "1", {"compression": name}) for name in ("group3", "group4", "tiff_ccitt")),
    *(("TIFF", mode, {}) for mode in ("1", "L", "P", "RGBA", "CMYK", "LAB")),
)
