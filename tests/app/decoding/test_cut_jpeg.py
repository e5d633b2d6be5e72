"""A JPEG without its end marker is taken if it has all its pixels, and only then."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.decoding.cut_jpeg import END, is_soon_told, lacks_only_its_end, with_end
from app.decoding.jpeg import Scans

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "every channel at full size": {"subsampling": 0},
    "half the colors across": {"subsampling": 1},
    "optimized codes": {"optimize": True},
    "restart markers": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
    "progressive with restart markers": {"progressive": True, "restart_marker_rows": 1},
}


def jpeg(mode: str, options: dict[str, Any], side: int = 45) -> bytes:
    rows, columns = np.mgrid[0:side, 0 : side + 8]
    slopes = np.stack([rows * 3 + columns, columns * 4, (rows + columns) * 2], axis=2)
    noise = np.random.default_rng(6).normal(0, 12, slopes.shape)
    file = io.BytesIO()
    Image.fromarray((slopes + noise).clip(0, 255).astype(np.uint8)).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def is_taken(payload: bytes) -> bool:
    try:
        return lacks_only_its_end(payload)
    except (OSError, ValueError, SyntaxError):
        return False


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_lacks_only_its_end_is_taken_and_what_is_cut_anywhere_before_is_not(kind: str, mode: str) -> None:
    whole = jpeg(mode, KINDS[kind])
    assert whole.endswith(END)
    body = whole[: -len(END)]
    assert is_taken(body)
    assert is_taken(body + END[:1])
    assert with_end(body + END[:1]) == with_end(body) == whole
    longest_runs = range(len(body) - 64, len(body) - 1)  # of the last byte, some bits only fill it
    assert [cut - len(body) for cut in {*range(2, len(body) - 64, 7), *longest_runs} if is_taken(body[:cut])] == []


def test_a_progressive_jpeg_without_its_last_scans_is_cut_though_each_scan_is_whole() -> None:
    whole = jpeg("RGB", {"progressive": True})
    last_scan = whole.rindex(b"\xff\xda")
    tables = whole.rindex(b"\xff\xc4", 0, last_scan)
    assert not is_taken(whole[:tables])


def test_restart_markers_are_counted() -> None:
    whole = jpeg("L", {"restart_marker_blocks": 3})
    boundaries = [at for at in range(len(whole) - 1) if whole[at] == 0xFF and 0xD0 <= whole[at + 1] <= 0xD7]
    assert len(boundaries) == 13  # 6 rows of 7 blocks
    assert not any(is_taken(whole[:at]) or is_taken(whole[: at + 2]) for at in boundaries)


@pytest.mark.parametrize("payload", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\0\x0b\x08", b"\xff\xd8\xff\xda\0\x02" * 3])
def test_what_has_no_picture_is_not_taken(payload: bytes) -> None:
    assert not is_taken(payload)


def test_a_jpeg_that_takes_long_to_decode_is_not_decoded_again_and_again() -> None:
    assert is_soon_told(16_000_000, Scans(1))
    assert not is_soon_told(16_000_001, Scans(1))
    assert is_soon_told(4_000_000, Scans(13))
    assert not is_soon_told(4_000_000, Scans(14))
