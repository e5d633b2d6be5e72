"""By how much a thing is turned: layers that travel in a spec, and what they make of a square."""

import base64

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from model.spec import Fit, Tilt
from model.tilt import degrees_of, layers_of, packed, small

RNG = np.random.default_rng(7)
LAYERS = (
    (
        RNG.normal(size=(9, 5)).astype(np.float16).astype(np.float32),
        RNG.normal(size=5).astype(np.float16).astype(np.float32),
    ),
    (
        RNG.normal(size=(5, 1)).astype(np.float16).astype(np.float32),
        RNG.normal(size=1).astype(np.float16).astype(np.float32),
    ),
)


def test_layers_come_back_as_they_were_packed_through_json() -> None:
    fit = Fit(mode="pad", background="black", frame="thing", tilt=packed(LAYERS, 9))
    found = Fit.model_validate_json(fit.model_dump_json()).tilt
    assert found is not None
    assert (found.beyond, found.sizes) == (9, (9, 5, 1))
    for (matrix, bias), (expected_matrix, expected_bias) in zip(layers_of(found), LAYERS, strict=True):
        np.testing.assert_array_equal(matrix, expected_matrix)
        np.testing.assert_array_equal(bias, expected_bias)


def test_degrees_are_those_of_the_layers_with_a_relu_between() -> None:
    squares = RNG.integers(0, 256, (3, 6, 6, 1), dtype=np.uint8)
    values = squares.reshape(3, 3, 2, 3, 2).mean((2, 4)).reshape(3, 9) / 255  # the mean of each four
    mirrored = values.reshape(3, 3, 3)[:, :, ::-1].reshape(3, 9)
    (first, first_bias), (last, last_bias) = LAYERS
    said, said_mirrored = (np.maximum(each @ first + first_bias, 0) @ last + last_bias for each in (values, mirrored))
    expected = (said - said_mirrored) / 2
    found = degrees_of(squares, packed(LAYERS, 9))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-5)


def test_a_mirror_image_is_turned_by_as_much_to_the_other_side() -> None:
    squares = RNG.integers(0, 256, (3, 6, 6, 1), dtype=np.uint8)
    found = packed(LAYERS, 9)
    np.testing.assert_allclose(degrees_of(squares[:, :, ::-1], found), -degrees_of(squares, found), atol=1e-6)


def test_a_color_picture_is_seen_in_grey() -> None:
    grey = RNG.integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    np.testing.assert_allclose(small(grey.repeat(3, axis=3), 4), small(grey, 4), atol=1)  # rounded
    assert small(grey, 4).shape == (2, 4, 4)


@pytest.mark.parametrize(("size", "side"), [(12, 4), (14, 14), (20, 14)])
def test_its_pixels_are_means(size: int, side: int) -> None:
    squares = RNG.integers(0, 256, (2, size, size, 1), dtype=np.uint8)
    expected = [
        np.asarray(Image.fromarray(each[:, :, 0]).resize((side, side), Image.Resampling.BOX)) for each in squares
    ]
    np.testing.assert_allclose(small(squares, side), expected, atol=1)


def test_a_fit_without_is_written_as_before_so_that_earlier_versions_read_it() -> None:
    assert "tilt" not in Fit(mode="pad", background="black", frame="thing").model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sizes": (8, 5, 1)}, r"sizes is \[8, 5, 1\]; expected a square number first, and 1 last"),
        ({"sizes": (9, 5, 2)}, r"sizes is \[9, 5, 2\]; expected"),
        ({"sizes": (9, 4, 1)}, "weights has 112 bytes; expected 90"),
        ({"weights": base64.b64encode(b"two").decode()}, "weights has 3 bytes; expected 112"),
        ({"weights": "?"}, "weights"),
        ({"beyond": 0}, "beyond"),
        ({"beyond": 90}, "beyond"),
    ],
)
def test_what_is_no_network_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Tilt.model_validate({**packed(LAYERS, 9).model_dump(), **change})
