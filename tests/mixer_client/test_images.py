"""What is sent for each kind of image."""

import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixer_client.errors import BadInput
from mixer_client.images import payload_of
from tests.app.servers import ROOT

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def shown(body: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(body)))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_sent_as_they_are(kind: type) -> None:
    assert payload_of(kind(b"a file")) == (b"a file", "application/octet-stream")


@pytest.mark.parametrize("kind", [str, Path])
def test_of_a_path_the_bytes_of_its_file_are_sent(kind: type, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a file")
    assert payload_of(kind(tmp_path / "a.jpg")).body == b"a file"


def test_a_path_of_no_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        payload_of(tmp_path / "none.jpg")


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (1, 1), (300, 2, 3)])
def test_an_array_becomes_a_file_of_the_same_pixels(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    body, content_type = payload_of(pixels)
    assert content_type == "image/tiff"
    assert np.array_equal(shown(body), pixels)


def test_one_channel_may_have_an_axis() -> None:
    assert np.array_equal(shown(payload_of(PIXELS[:, :, :1]).body), PIXELS[:, :, 0])


@pytest.mark.parametrize("view", [PIXELS[..., ::-1], PIXELS[::2], np.asfortranarray(PIXELS), PIXELS.swapaxes(0, 1)])
def test_an_array_may_lie_in_memory_in_any_order(view: np.ndarray[Any, Any]) -> None:
    assert np.array_equal(shown(payload_of(view).body), view)


class OnlyInterface:
    """An array without the buffer protocol."""

    def __init__(self, **changes: object) -> None:
        self.__array_interface__ = {
            "version": 3, "typestr": "|u1", "shape": PIXELS.shape, "data": PIXELS.tobytes(), **changes
        }  # fmt: skip


def test_an_array_need_not_be_numpys() -> None:
    pointer = PIXELS.__array_interface__["data"]
    for data in (PIXELS.tobytes(), pointer):
        assert np.array_equal(shown(payload_of(OnlyInterface(data=data)).body), PIXELS)


def test_an_array_of_which_only_the_place_is_known_has_to_lie_row_by_row() -> None:
    with pytest.raises(BadInput, match="row by row"):
        payload_of(OnlyInterface(strides=(1, 2, 3)))


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (PIXELS.astype(np.float32), r"The array is <f4 \[5, 7, 3\]; expected uint8"),
        (PIXELS[:, :, :2], r"\|u1 \[5, 7, 2\]"),
        (PIXELS[:0], r"\[0, 7, 3\]"),
        (PIXELS[None], r"\[1, 5, 7, 3\]"),
        (PIXELS[0, 0], r"\[3\]"),
        (PIXELS > 9, r"\|b1"),
    ],
)
def test_an_array_of_another_kind_is_refused(array: np.ndarray[Any, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        payload_of(array)


def test_an_image_of_pillow_becomes_a_png_of_the_same_pixels() -> None:
    body, content_type = payload_of(Image.fromarray(PIXELS))
    assert content_type == "image/png"
    assert np.array_equal(shown(body), PIXELS)


def test_an_image_of_pillow_keeps_how_it_is_held_and_its_color_profile() -> None:
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = 6
    image.info["icc_profile"] = b"a profile"
    sent = Image.open(io.BytesIO(payload_of(image).body))
    assert sent.getexif()[0x0112] == 6
    assert sent.info["icc_profile"] == b"a profile"


def test_an_image_of_pillow_that_no_png_holds_is_refused_with_the_way_out() -> None:
    with pytest.raises(BadInput, match=r'mode CMYK.*image\.convert\("RGB"\)'):
        payload_of(Image.new("CMYK", (2, 2)))


def test_an_image_of_pillow_whose_file_breaks_off_is_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(file, "PNG")
    with pytest.raises(BadInput, match=r"cannot be written as a PNG: .*truncated"):
        payload_of(Image.open(io.BytesIO(file.getvalue()[:2000])))


def test_an_image_of_pillow_whose_exif_is_broken_is_sent_without_it() -> None:
    header, text, count = b"Exif\0\0II*\0\x08\0\0\0", 2, 4
    for exif in (b"garbage", header + struct.pack("<HHHI4sI", 1, 0x0112, text, count, b"six", 0)):
        image = Image.fromarray(PIXELS)
        image.info["exif"] = exif
        assert np.array_equal(shown(payload_of(image).body), PIXELS)


def test_whatever_pillow_raises_the_image_is_refused() -> None:
    image = Image.fromarray(PIXELS)
    image.info["icc_profile"] = "no bytes"
    with pytest.raises(BadInput, match="cannot be written as a PNG: a bytes-like object is required"):
        payload_of(image)


def test_memory_that_has_been_released_is_refused() -> None:
    view = memoryview(b"a file")
    view.release()
    with pytest.raises(BadInput, match="released memoryview"):
        payload_of(view)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(BadInput, match="is no path"):
        payload_of("a\0b")


def test_a_url_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'https://shop\.example/a\.jpg' is a URL; expected a path, or the bytes"):
        payload_of("https://shop.example/a.jpg")


@pytest.mark.parametrize("image", [None, 3, [1, 2], object()])
def test_anything_else_is_refused(image: Any) -> None:
    with pytest.raises(BadInput, match=f"is of type {type(image).__name__}; expected a path"):
        payload_of(image)


@pytest.mark.process
def test_neither_pillow_nor_numpy_is_imported() -> None:
    program = (
        "import sys, mixer_client.images as images\n"
        "images.payload_of(b'x')\n"
        "assert not {'PIL', 'numpy', 'app', 'model'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, env=dict(os.environ), timeout=60)
