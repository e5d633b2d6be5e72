"""Files are kept as they came, under an ending that their bytes tell; pixels become a PNG of the same pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from app.collection.picture import as_file, held, size_of
from tests.app.color_bundle import RED, image


@pytest.mark.parametrize(
    ("kind", "ending"),
    [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tiff")],
)
def test_a_file_keeps_its_bytes(kind: str, ending: str) -> None:
    content = image(RED, kind=kind)
    assert as_file(content) == (content, ending)
    assert size_of(content) == len(content)
    assert held(content) is content


def test_bytes_of_no_known_kind_have_an_ending_of_their_own() -> None:
    assert as_file(b"hello") == (b"hello", "bin")


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_become_a_png_of_them(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    content, ending = as_file(pixels)
    assert (ending, content[:4]) == ("png", b"\x89PNG")
    shown = np.asarray(Image.open(io.BytesIO(content)))
    assert (shown.reshape(pixels.shape) == pixels).all()


def test_pixels_that_are_a_part_of_a_request_do_not_hold_all_of_it() -> None:
    batch = np.zeros((4, 5, 7, 3), dtype=np.uint8)
    kept = held(batch[2])
    assert isinstance(kept, np.ndarray)
    assert kept.base is None
    assert size_of(kept) == 5 * 7 * 3
