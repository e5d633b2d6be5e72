"""What the strips and tiles of a TIFF cost, told from its tags."""

import io
import struct

import pytest
from PIL import Image

from app.decoding.tiff import expect_affordable
from app.errors import BadImage, TooManyPixels
from tests.faults.hostile import grey_tiff, jpeg_of_arithmetic_scans, longs, saved, segment, tiff

JPEG = saved(Image.new("L", (16, 8)), "JPEG")
SCAN = segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0"


def judged(payload: bytes) -> None:
    image = Image.open(io.BytesIO(payload))
    expect_affordable(image, payload)  # type: ignore[arg-type]


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"])
@pytest.mark.parametrize("rows", [8, 64])
def test_what_pillow_writes_is_affordable(compression: str | None, rows: int) -> None:
    judged(saved(Image.new("RGB", (640, 480)), "TIFF", compression=compression, tiffinfo={278: rows}))
    judged(saved(Image.new("RGB", (640, 480)), "TIFF", compression=compression, big_tiff=True))


@pytest.mark.parametrize(("compression", "most"), [(1, 50_000), (5, 50_000), (7, 10_000), (6, 10_000)])
def test_strips_are_limited_by_their_number(compression: int, most: int) -> None:
    judged(grey_tiff(1, most, b"\0" * 9, compression=compression))
    with pytest.raises(BadImage, match=f"^The TIFF has {most + 1} strips or tiles; expected at most {most}"):
        judged(grey_tiff(1, most + 1, b"\0" * 9, compression=compression))
    with pytest.raises(BadImage, match="strips or tiles; expected at most"):  # however few it lists
        judged(grey_tiff(1, 60_000, b"\0" * 9, {273: longs(8), 279: longs(1)}, compression=compression))


def test_tiles_are_limited_by_their_pixels_wherever_they_lie() -> None:
    tiles = {322: longs(32_000), 323: longs(16), 324: longs(8), 325: longs(9)}
    judged(tiff_of_tiles(16 * 195, tiles))
    with pytest.raises(TooManyPixels, match="196 strips or tiles of 512000 pixels; expected at most 100000000 pixels"):
        judged(tiff_of_tiles(16 * 196, tiles))
    with pytest.raises(BadImage, match="tiles of 0 x 16 pixels"):
        judged(tiff_of_tiles(16, {**tiles, 322: longs(0)}))


def tiff_of_tiles(height: int, tiles: dict[int, tuple[int, int, bytes]]) -> bytes:
    tags = {256: longs(1), 257: longs(height), 258: (3, 1, b"\x08\0"), 259: longs(8), 262: longs(1), 277: longs(1)}
    return tiff({**tags, **tiles})


def test_strips_that_share_bytes_are_limited_by_what_is_read() -> None:
    shared = bytes(3_000_000)
    judged(grey_tiff(1, 3, shared, compression=5))
    with pytest.raises(BadImage, match=r"have 12000000 bytes in all; the file has 3000\d+, and at most 1100"):
        judged(grey_tiff(1, 4, shared, compression=5))
    with pytest.raises(BadImage, match=r"have 9000000 bytes in all; the file has 9000\d+, and at most 8000000"):
        judged(grey_tiff(1, 1, bytes(9_000_000), compression=50_000))
    with pytest.raises(BadImage, match=r"have 105000000 bytes in all; the file has 3000\d+, and at most 1030"):
        judged(grey_tiff(1, 35, shared, compression=7))
    judged(grey_tiff(1, 40_000, bytes(200), compression=5))  # as of a picture that is mostly empty


@pytest.mark.parametrize("compression", [6, 7])
def test_scans_of_all_strips_are_counted(compression: int) -> None:
    content = JPEG[:-2] + SCAN * 99
    judged(grey_tiff(1000, 7, content, rows=1000, compression=compression))
    with pytest.raises(
        TooManyPixels, match="The TIFF has 800 JPEG scans of 1000000 pixels in its strips or tiles, whic"
    ):
        judged(grey_tiff(1000, 8, content, rows=1000, compression=compression))
    arithmetic = content.replace(b"\xff\xc0", b"\xff\xc9")
    with pytest.raises(TooManyPixels, match="1500000000"):
        judged(grey_tiff(1000, 1, arithmetic, rows=1000, compression=compression))


def test_a_strip_costs_what_the_jpeg_in_it_declares() -> None:
    taller = jpeg_of_arithmetic_scans(700, 65_000, 60, b"\x3f")
    with pytest.raises(TooManyPixels, match="45500000 pixels"):
        judged(grey_tiff(700, 1, taller, rows=8, compression=7))
    as_tall = jpeg_of_arithmetic_scans(700, 8, 60, b"\x3f")
    judged(grey_tiff(700, 1, as_tall, rows=8, compression=7))


def test_a_strip_that_does_not_say_how_long_it_is_may_go_on_to_the_end() -> None:
    content = JPEG[:-2] + SCAN * 999
    for lengths in ({279: longs(0)}, {279: longs()}):
        with pytest.raises(TooManyPixels, match="The TIFF has 1000 JPEG scans"):
            judged(grey_tiff(1000, 1, content, lengths, rows=1000, compression=7))


def test_what_two_readers_may_read_differently_is_refused() -> None:
    whole = grey_tiff(8, 8, bytes(64), rows=8, compression=5)
    at = whole.index(struct.pack("<HH", 278, 4))
    twice = whole[:at] + struct.pack("<HH", 279, 4) + whole[at + 4 :]
    with pytest.raises(BadImage, match=r"^The TIFF has tag 279 more than once; expected one"):
        judged(twice)
    with pytest.raises(BadImage, match=r"^Tag 279 of the TIFF has type 17; expected one of \(3, 4, 16\)"):
        judged(whole.replace(struct.pack("<HH", 279, 4), struct.pack("<HH", 279, 17)))
