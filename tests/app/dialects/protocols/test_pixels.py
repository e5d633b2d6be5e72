"""Pixels as nested lists: what is taken, what is refused, and that nothing is converted before."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.dialects.protocols.pixels import pixels_of
from app.errors import BadImage

CUBE = [[[0, 1, 2], [3, 4, 255]]]


@pytest.mark.parametrize(
    ("rows", "shape", "values"),
    [
        (CUBE, (1, 2, 3), [0, 1, 2, 3, 4, 255]),
        ([[0, 9], [255, 7]], (2, 2, 1), [0, 9, 255, 7]),
        ([[[5], [6]]], (1, 2, 1), [5, 6]),
        ([[0.4, 127.6, 255.0]], (1, 3, 1), [0, 128, 255]),
        ([[0, 1], [1, 0]], (2, 2, 1), [0, 1, 1, 0]),
        ([[0.0, 1.0]], (1, 2, 1), [0, 1]),
        ([[], []], (2, 0, 1), []),
    ],
)
def test_lists_two_or_three_deep_are_a_picture(rows: list[Any], shape: tuple[int, ...], values: list[int]) -> None:
    pixels = pixels_of(rows, "instances[0]")
    assert (pixels.shape, pixels.dtype, pixels.ravel().tolist()) == (shape, np.uint8, values)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "has lists 1 deep"),
        ([1, 2], "has lists 1 deep"),
        ([[[[1]]]], "has lists 4 deep"),
        ([[1, 2], [3]], "has lists of 1 and of 2 side by side"),
        ([[1], 2], "something else than numbers"),
        ([["1"]], "something else than numbers"),
        ([[True]], "something else than numbers"),
        ([[None]], "something else than numbers"),
        ([[{"b64": ""}]], "something else than numbers"),
        ([[-1]], "has numbers below 0 or above 255"),
        ([[256.0, 0]], "has numbers below 0 or above 255"),
        ([[10**400]], "has numbers below 0 or above 255"),
        ([[float("inf")]], "has numbers below 0 or above 255"),
        ([[0.25, 1.0]], "has fractions and nothing above 1, as if divided by 255"),
    ],
)
def test_all_else_is_refused_by_name(rows: list[Any], words: str) -> None:
    with pytest.raises(BadImage) as refused:
        pixels_of(rows, "instances[3]")
    assert str(refused.value).startswith("instances[3] ")
    assert words in str(refused.value)
    assert "from 0 to 255" in str(refused.value)


@given(
    arrays.arrays(
        np.uint8,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(lambda hw: st.sampled_from([hw, (*hw, 3)])),
    )
)
def test_what_was_an_array_is_that_array(array: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    assert np.array_equal(pixels_of(array.tolist(), "x").reshape(array.shape), array)
