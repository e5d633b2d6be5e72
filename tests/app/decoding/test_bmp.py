"""Run lengths of a BMP: the pixels that Pillow makes of them, in a fraction of the time."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from app.decoding.bmp import kind, unrolled
from app.decoding.decoder import DecodeLimits, decode
from app.errors import BadImage
from tests.faults.hostile import run_length_bmp


def _halves(payload: bytes) -> bytes:
    """The same BMP with 4 bits for a pixel."""
    return payload[:28] + struct.pack("<HI", 4, 2) + payload[34:]


@pytest.mark.parametrize("halves", [False, True])
def test_runs_of_every_kind_are_what_pillow_takes_them_for(halves: bool) -> None:
    rng = np.random.default_rng(5)
    whole = 0
    for _ in range(400):
        width, height = (int(side) for side in rng.integers(1, 20, 2))
        kinds = rng.choice([0, 0, 0, 1, 2, 3, 4, 5, 7, 200], int(rng.integers(0, 200)))
        payload = run_length_bmp(width, height, bytes(kinds.tolist()))
        payload = _halves(payload) if halves else payload
        image = Image.open(io.BytesIO(payload))
        pixels = unrolled(payload, image.tile[0].offset, image.size, halves=halves)  # type: ignore[attr-defined]
        try:
            expected = np.asarray(image)
        except ValueError:
            assert len(pixels) < width * height
            continue
        whole += 1
        rows = np.frombuffer(pixels, np.uint8)[: width * height].reshape(height, width)
        assert np.array_equal(rows[::-1], expected)  # the last row comes first
    assert whole > 50


def test_a_picture_of_runs_is_decoded_as_it_is() -> None:
    payload = run_length_bmp(3, 2, bytes([3, 1, 0, 0, 2, 1, 1, 0, 0, 1]))
    payload = payload[:58] + bytes([0, 0, 255, 0]) + payload[62:]  # colour 1 is red
    pixels = decode(payload, 3, 8, DecodeLimits(10_000, 100))
    assert pixels[:, :, 0].tolist() == [[255, 255, 0], [255, 255, 255]]
    assert not pixels[:, :, 1:].any()


def test_runs_are_limited() -> None:
    with pytest.raises(BadImage, match=r"^The BMP has more than 500000 runs, the most expected\.$"):
        unrolled(b"\0\0" * 500_001, 0, (8, 8), halves=False)


def test_what_a_header_says_of_a_pixel_is_told_in_words_unless_it_is_cut_off() -> None:
    payload = run_length_bmp(4, 4, b"")
    assert kind(payload) == "8 bits a pixel, in coding 1"
    header_end = 14 + int.from_bytes(payload[14:18], "little")
    assert {kind(payload[:cut]) for cut in range(header_end)} == {None}
    assert kind(payload[:14] + struct.pack("<I", 41) + payload[18:]) is None
