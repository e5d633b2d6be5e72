"""What samples mean where Pillow does not say it, as far as the files of tests/kinds leave it out."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.preprocess import to_pixels
from model.samples import UnsupportedSamples, is_deep, load, to_8_bits

sys.path.append(str(Path(__file__).parents[1] / "kinds"))
from tests.kinds.every_tiff import BLACK_IS_ZERO, SEPARATED, tiff


def opened(payload: bytes) -> Image.Image:
    return Image.open(io.BytesIO(payload))


def grey_tiff(values: list[int], bits: int) -> Image.Image:
    return opened(tiff(np.array(values).reshape(1, -1, 1), bits, BLACK_IS_ZERO, rows=1))


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0, 100, 255], [0, 100, 255]),
        ([0, 25_700, 65_535], [0, 100, 255]),
        ([0, 2**20], [0, 255]),  # of 16 bits, all but one too bright, rather than all black
        ([0, 100 * 2**24, 2**32 - 1], [0, 100, 255]),
    ],
)
def test_32_bits_are_on_the_scale_that_they_reach(values: list[int], levels: list[int]) -> None:
    image = grey_tiff(values, 32)
    load(image)
    assert is_deep(image)
    assert to_8_bits(image).tobytes() == bytes(levels)


def test_12_bits_are_on_their_own_scale_however_dark() -> None:
    assert to_pixels(grey_tiff([0, 16, 32], 12), 1).ravel().tolist() == [0, 1, 2]


def test_planes_that_would_be_read_as_others_are_refused_before_they_are() -> None:
    with pytest.raises(UnsupportedSamples, match=r"^The TIFF has planes of 16 bits in mode CMYK\.$"):
        load(opened(tiff(np.zeros((2, 2, 4), int), 16, SEPARATED, rows=2, planar=True)))


def test_a_picture_loaded_twice_is_loaded_once() -> None:
    image = grey_tiff([0, 100, 255], 8)
    load(image)
    load(image)
    assert not is_deep(image)
    assert image.tobytes() == bytes([0, 100, 255])
