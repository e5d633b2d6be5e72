"""What a JPEG stream holds: scans where libjpeg finds them, tables, and how they are coded."""

import io

import pytest
from PIL import Image

from app.decoding.decoder import DecodeLimits, decode
from app.decoding.jpeg import ARITHMETIC_WEIGHT, Scans, expect_few_tables, frame_pixels, most_scans, scans
from app.errors import BadImage


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def test_scans_are_counted_where_libjpeg_finds_them() -> None:
    plain = saved(Image.new("RGB", (80, 60)), "JPEG")
    comment = b"\xff\xfe\x00\x06\xff\xda\xff\xda"
    thumbnail = b"\xff\xe1" + (len(plain) + 2).to_bytes(2) + plain
    for payload in (plain, plain[:2] + comment + plain[2:], plain[:2] + thumbnail + plain[2:], plain + plain):
        assert scans(payload) == Scans(1)
    progressive = saved(Image.new("L", (80, 60)), "JPEG", progressive=True)
    counted = scans(progressive).number
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    hidden = b"\xff\xfe\x00\x04\xff\xd9"  # an end that is none
    longer = progressive[:-2] + (hidden + last) * 7 + progressive[-2:]
    assert scans(longer) == Scans(counted + 7)


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content


def _jpeg(frame: int, *scans: int, between: bytes = b"") -> bytes:
    """The frame of a JPEG of 3 channels, with as many scans as `scans` names numbers of channels."""
    start = b"\xff\xd8" + _segment(frame, b"\x08\0\x10\0\x10\x03" + bytes(9))
    return start + between.join(_segment(0xDA, bytes([count, *range(2 * count + 3)])) for count in scans) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("payload", "number", "weight"),
    [
        (_jpeg(0xC0, 1, 1, 1), 3, 1),
        (_jpeg(0xC1, 2, 1), 2, 1),
        (_jpeg(0xC0, 3), 1, 1),
        (_jpeg(0xC0, 3, 3, 3), 1, 1),  # libjpeg refuses the second
        (_jpeg(0xC9, 3, 3), 3, ARITHMETIC_WEIGHT),
        (_jpeg(0xC2, 3, 3, 1), 3, 1),
        (_jpeg(0xCA, 3, 3), 2, ARITHMETIC_WEIGHT),
        (_jpeg(0xC2, 3, 3, 3, between=b"\xff\x01\xff\xff"), 3, 1),  # a marker without length would hide the rest
        (_jpeg(0xC2, 3, 3, 3, between=b"\xff\xd3\xff\x00\xff\xff"), 3, 1),
    ],
)  # fmt: skip
def test_a_sequential_jpeg_is_gone_over_once_if_its_first_scan_has_all_channels(
    payload: bytes, number: int, weight: int
) -> None:
    assert scans(payload) == Scans(number, weight)


def test_scans_behind_the_one_with_all_channels_are_refused_by_the_decoder() -> None:
    plain = saved(Image.new("RGB", (80, 60)), "JPEG")
    scan = plain[plain.rindex(b"\xff\xda") : -2]
    with pytest.raises(BadImage, match="broken data stream"):
        decode(plain[:-2] + scan * 1000 + plain[-2:], 3, 80, DecodeLimits(1 << 20, 10_000))


def test_a_jpeg_of_endless_segments_is_refused() -> None:
    progressive = saved(Image.new("L", (80, 60)), "JPEG", progressive=True)
    payload = progressive[:-2] + b"\xff\xfe\x00\x02" * 10_001
    with pytest.raises(BadImage, match=r"^The JPEG has more than 10000 segments, the most expected\.$"):
        scans(payload)


@pytest.mark.parametrize("marker", [0xC0, 0xC2, 0xDB, 0xDE, 0xED])
def test_tables_are_limited_by_their_bytes_whatever_is_between(marker: int) -> None:
    plain = saved(Image.new("L", (8, 8)), "JPEG")
    expect_few_tables(plain[:2] + _segment(marker, bytes(60_000)) * 8 + plain[2:])
    for between in (b"", b"\xff\xf0", b"\xff\xd0\0\x40", _segment(0xE5, bytes(100))):
        with pytest.raises(BadImage, match=r"^The JPEG has more than 524288 bytes of tables, the most expected\.$"):
            expect_few_tables(plain[:2] + (_segment(marker, bytes(60_000)) + between) * 9 + plain[2:])


def test_what_is_not_read_into_objects_is_not_counted() -> None:
    plain = saved(Image.new("L", (8, 8)), "JPEG")
    profile = _segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))
    expect_few_tables(plain[:2] + profile * 100 + plain[2:])
    expect_few_tables(plain + _segment(0xDB, bytes(60_000)) * 100)  # behind the first scan
    expect_few_tables(plain[:20])
    with pytest.raises(BadImage, match="more than 10000 segments"):
        expect_few_tables(plain[:2] + _segment(0xE5, b"") * 10_001 + plain[2:])


def test_the_pixels_of_a_frame_in_a_part_of_a_file() -> None:
    whole = saved(Image.new("RGB", (30, 20)), "JPEG", icc_profile=bytes(200_000))
    between = b"junk" + whole + b"more"
    assert frame_pixels(between, 4, 4 + len(whole)) == 600
    assert frame_pixels(whole, 0, 30) == 0  # cut off before it
    with pytest.raises(BadImage, match="more than 100 segments before its frame"):
        frame_pixels(b"\xff\xd8" + b"\xff\xfe\0\2" * 200 + whole[2:], 0, 10_000)


def test_the_most_scans_of_a_part_of_a_file() -> None:
    progressive = saved(Image.new("L", (80, 60)), "JPEG", progressive=True)
    counted = scans(progressive).number
    between = b"xx" + progressive + _jpeg(0xCA, 3, 3)
    end = 2 + len(progressive)
    assert most_scans(between, 2, end) == Scans(counted)
    assert most_scans(between, end, len(between)) == Scans(2, ARITHMETIC_WEIGHT)
    assert most_scans(between, 0, 2) == Scans(1)
