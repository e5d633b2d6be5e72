"""Files that want to hurt: small ones that unfold, long ones that are nothing but headers, and odd ones."""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tests.app.color_bundle import RED

MANY = 300_000


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str, side: int, kind: str, **options: Any) -> bytes:
    """A black square."""
    return saved(Image.new(mode, (side, side)), kind, **options)


def red(kind: str = "PNG", **options: Any) -> bytes:
    return saved(Image.new("RGB", (8, 8), RED), kind, **options)


# --- PNG ---


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(*chunks: bytes) -> bytes:
    """A red PNG with chunks before its pixels."""
    whole = red()
    return whole[:33] + b"".join(chunks) + whole[33:]


def png_declaring(width: int, height: int, depth: int = 8, color: int = 2, pixels: bytes = b"") -> bytes:
    """A PNG of that size, with those bytes for pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + body


# --- JPEG ---


def jpeg_declaring(width: int, height: int) -> bytes:
    """A JPEG that says it has that size."""
    whole = red("JPEG", quality=95, subsampling=0)
    size_at = whole.index(b"\xff\xc0") + 5
    return whole[:size_at] + struct.pack(">HH", height, width) + whole[size_at + 4 :]


def jpeg_with(inserted: bytes) -> bytes:
    """A red JPEG with bytes after its first marker."""
    whole = red("JPEG", quality=95, subsampling=0)
    return whole[:2] + inserted + whole[2:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_of_scans(height: int, scans: int, width: int | None = None) -> bytes:
    """A progressive JPEG that refines the same pixels again and again; a square where no width is given."""
    whole = saved(Image.new("L", (width or height, height)), "JPEG", progressive=True, quality=30)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * scans + whole[-2:]


def jpeg_of_arithmetic_scans(width: int, height: int, scans: int, coded: bytes) -> bytes:
    """A grey progressive JPEG, arithmetic-coded: one scan of averages, and so many of details, all the same bytes."""
    tables = segment(0xDB, b"\0" + b"\1" * 64)
    frame = segment(0xCA, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    averages = segment(0xDA, b"\1\1\0\0\0\0") + b"\0\0"
    details = segment(0xDA, b"\1\1\0\1\x3f\0") + coded
    return b"\xff\xd8" + tables + frame + averages + details * scans + b"\xff\xd9"


# --- TIFF and EXIF ---

_LONG = 4


def longs(*values: int) -> tuple[int, int, bytes]:
    """The type, count and bytes of a tag."""
    return _LONG, len(values), struct.pack(f"<{len(values)}I", *values)


def rationals(count: int) -> tuple[int, int, bytes]:
    return 5, count, struct.pack("<II", 3, 7) * count


def tiff(tags: Mapping[int, tuple[int, int, bytes]], tail: bytes = b"") -> bytes:
    """A directory of tags: the frame of every TIFF file, and all of EXIF."""
    beyond = 8 + 2 + 12 * len(tags) + 4
    entries, contents = b"", b""
    for tag, (kind, count, value) in sorted(tags.items()):
        inside = value if len(value) <= 4 else struct.pack("<I", beyond + len(contents))
        contents += value if len(value) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, count) + inside.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + contents + tail


def tiff_image(side: int, tags: Mapping[int, tuple[int, int, bytes]], compression: int = 1) -> bytes:
    """A TIFF of 8-bit RGB whose other tags are given."""
    basis = {256: longs(side), 257: longs(side), 258: (3, 3, struct.pack("<3H", 8, 8, 8)), 259: longs(compression)}
    return tiff({**basis, 262: longs(2), 277: longs(3), **tags})


def grey_tiff(
    width: int,
    strips: int,
    content: bytes,
    tags: Mapping[int, tuple[int, int, bytes]] | None = None,
    *,
    rows: int = 1,
    compression: int = 1,
) -> bytes:
    """A grey TIFF whose strips, of so many rows each, all are the same bytes."""

    def made(at: int) -> bytes:
        places = {273: longs(*[at] * strips), 279: longs(*[len(content)] * strips), 278: longs(rows)}
        basis = {256: longs(width), 257: longs(rows * strips), 258: (3, 1, b"\x08\0"), 259: longs(compression)}
        return tiff({**basis, 262: longs(1), 277: longs(1), **places, **(tags or {})})

    return made(len(made(0))) + content


def same_place(width: int, strips: int, size: int) -> bytes:
    """A grey TIFF of so many bytes, not compressed: strips of one row that all begin at its start."""
    places = {273: (3, strips, struct.pack("<H", 8) * strips), 279: longs(width)}
    return grey_tiff(width, strips, b"", places).ljust(size, b"\0")


def descending_strips(strips: int, size: int) -> bytes:
    """A grey TIFF of so many bytes, not compressed: each strip of one pixel begins a byte before the one above it."""
    places = {273: longs(*range(8 + strips, 8, -1)), 279: longs(*[1] * strips)}
    return grey_tiff(1, strips, b"", places).ljust(size, b"\0")


def red_tiff_of_one_value(tags: int, size: int) -> bytes:
    """A red TIFF whose Exif directory has so many tags, all of which have the same bytes for their value."""
    basis = {**ONE_STRIP, 34665: longs(0)}
    at = len(tiff_image(8, basis))
    value_at = at + 2 + 12 * tags + 4
    entries = b"".join(struct.pack("<HHII", 1000 + number, 1, size, value_at) for number in range(tags))
    whole = tiff_image(8, {**basis, 34665: longs(at), 273: longs(value_at)})
    return whole + struct.pack("<H", tags) + entries + bytes(4) + bytes(RED) * 64 + bytes(size)


def red_tiff_with_directories(count: int) -> bytes:
    """A red TIFF whose Exif and GPS directories, one and the same, are a single tag of so many fractions."""
    basis = {**ONE_STRIP, 34665: longs(0), 34853: longs(0)}
    at = len(tiff_image(8, basis))
    strip_at = at + 2 + 12 + 4
    directory = struct.pack("<HHHII", 1, 1000, 5, count, strip_at + 192) + bytes(4)
    whole = tiff_image(8, {**basis, 273: longs(strip_at), 34665: longs(at), 34853: longs(at)})
    return whole + directory + bytes(RED) * 64 + struct.pack("<II", 3, 7) * count


def broken_fax(height: int = 60_000) -> bytes:
    """A TIFF of one-bit lines 64 pixels wide, compressed as a fax, whose every line is junk."""
    junk = np.random.default_rng(8).bytes(height)
    tags = {256: longs(64), 257: longs(height), 258: (3, 1, b"\1\0"), 259: longs(3), 262: longs(0), 277: longs(1)}
    return tiff({**tags, 273: longs(400), 278: longs(height), 279: longs(height)}).ljust(400, b"\0") + junk


TILES_OF_A_GIGABYTE = {322: longs(20_000), 323: longs(20_000), 324: longs(8), 325: longs(100)}
ONE_STRIP = {273: longs(8), 278: longs(8), 279: longs(192)}
# Its one directory is its own child, and its own successor.
ENDLESS_EXIF = struct.pack("<2sHI H HHII HHII I", b"II", 42, 8, 2, 0x8769, 4, 1, 8, 0x0112, 3, 1, 1, 8)


# --- GIF, WebP, BMP ---


def gif_declaring(width: int, height: int) -> bytes:
    """A GIF that says that it and its first frame have that size."""
    whole = saved(Image.new("RGB", (8, 8), RED).quantize(2), "GIF")
    size, frame_at = struct.pack("<HH", width, height), whole.index(b"\x2c\0\0\0\0") + 5
    return whole[:6] + size + whole[10:frame_at] + size + whole[frame_at + 4 :]


def webp_declaring(width: int, height: int) -> bytes:
    """A lossless WebP that says it has that size; 16384 is the most that it can say."""
    whole = red("WEBP", lossless=True)
    size_at = whole.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", whole, size_at)
    declared = (width - 1) | (height - 1) << 14 | (bits >> 28) << 28
    return whole[:size_at] + struct.pack("<I", declared) + whole[size_at + 4 :]


class _BitWriter:
    """Little-endian bits."""

    def __init__(self) -> None:
        self._value = self._count = 0
        self._content = bytearray()

    def put(self, value: int, count: int) -> None:
        self._value |= value << self._count
        self._count += count
        while self._count >= 8:
            self._content.append(self._value & 255)
            self._value >>= 8
            self._count -= 8

    def one_symbol(self) -> None:
        self.put(0b0001, 4)  # simple, one symbol, of one bit: 0

    def all_bytes(self, alphabet: int) -> None:
        """A code of eight bits for each of the first 256 symbols."""
        self.put(0, 1)
        self.put(12 - 4, 4)
        for length in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8):
            self.put(length in (0, 8), 3)
        self.put(0, 1)
        for symbol in range(alphabet):
            self.put(symbol < 256, 1)

    def content(self) -> bytes:
        return bytes(self._content) + bytes([self._value])

    def bits(self) -> tuple[int, int]:
        """All of them as a number, and how many they are."""
        return int.from_bytes(self.content(), "little"), 8 * len(self._content) + self._count


def webp_of_groups(side: int, groups: int) -> bytes:
    """A black lossless WebP whose blocks of 4 x 4 pixels have so many groups of codes, one after the other."""
    bits = _BitWriter()
    for value, count in ((side - 1, 14), (side - 1, 14), (0, 4), (0b00100, 5), (0, 2)):
        bits.put(value, count)  # no transform, no cache, but groups
    bits.all_bytes(256 + 24)
    bits.all_bytes(256)
    for _ in range(3):
        bits.one_symbol()
    for block in range((side + 3) // 4 * ((side + 3) // 4)):
        for part in (block % groups & 255, block % groups >> 8):
            bits.put(int(f"{part:08b}"[::-1], 2), 8)
    for _ in range(5 * groups):
        bits.one_symbol()
    content = b"\x2f" + bits.content()
    content += bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(content) + 12) + b"WEBPVP8L" + struct.pack("<I", len(content)) + content


def empty_deflated_blocks(size: int) -> bytes:
    """256 zeros, deflated, behind about so many bytes of blocks that hold nothing but codes, which take time."""
    bits = _BitWriter()
    for value, count in ((0b100, 3), (0, 5), (0, 5), (14, 4)):
        bits.put(value, count)  # not the last, codes of its own: 257 of them, and one for distances
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
        bits.put({18: 1, 0: 2, 1: 2}.get(symbol, 0), 3)
    for repeats in (138, 118):
        bits.put(0, 1)  # so many times no code,
        bits.put(repeats - 11, 7)
    for value, count in ((0b11, 2), (0b01, 2), (0, 1)):
        bits.put(value, count)  # one for the end of a block, none for distances, and the end
    block, length = bits.bits()
    eight = sum(block << (length * number) for number in range(8)).to_bytes(length, "little")
    zeros = bytes(256)
    stored = b"\1" + struct.pack("<HH", len(zeros), len(zeros) ^ 0xFFFF) + zeros
    return b"\x78\1" + eight * (size // length) + stored + struct.pack(">I", zlib.adler32(zeros))


def zstd_of_tables(blocks: int) -> bytes:
    """A zstd stream of 8 zeros and 3 more for each block, whose 16 bytes have tables of 1280 places built."""
    first = struct.pack("<I", 8 << 3)[:3] + bytes(8)  # as it is
    sequences = bytes((0, 1, 0xA8)) + bytes.fromhex("f43f f31f f43f") + bytes((0, 0, 0, 4))  # no literals, one match
    block = struct.pack("<I", 2 << 1 | len(sequences) << 3)[:3] + sequences
    return bytes.fromhex("28b52ffd 0000") + first + block * blocks + b"\1\0\0"


def gif_with(inserted: bytes) -> bytes:
    """A GIF with blocks before its picture."""
    whole = saved(Image.new("RGB", (8, 8), RED).quantize(2), "GIF")
    colors_end = 13 + (3 << ((whole[10] & 7) + 1))
    return whole[:colors_end] + inserted + whole[colors_end:]


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 256 colours, compressed by run lengths."""
    palette = bytes(1024)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + info + palette + runs


def red_run_length_bmp(width: int, height: int) -> bytes:
    """A red picture: one run of one pixel to a row, and what is left of it is filled."""
    whole = run_length_bmp(width, height, b"\1\0\0\0" * height + b"\0\1")
    return whole[:54] + bytes((*RED[::-1], 0)) + whole[58:]


def frames(kind: str, count: int = 3000, **options: Any) -> bytes:
    """An animation whose first frame is red."""
    others = [Image.new("RGB", (8, 8), (0, number % 256, number // 256)) for number in range(count - 1)]
    return saved(Image.new("RGB", (8, 8), RED), kind, save_all=True, append_images=others, **options)


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (side, side, 3), dtype=np.uint8))
