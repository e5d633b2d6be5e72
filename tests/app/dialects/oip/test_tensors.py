"""Tensors as clients send them, and as nobody should."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dialects.oip.tensors import MOST_PICTURES, Tensor, joined, num_elements, pictures_of
from app.errors import BadParameter, TooManyBytes
from app.settings import Settings

RAMP = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)  # N H W C


def tensor(shape: Any, content: Any, datatype: str = "BYTES") -> Tensor:
    return Tensor("image", datatype, shape, content)


@given(st.lists(st.binary(max_size=9), max_size=6))
def test_elements_come_back_as_they_were_joined(elements: list[bytes]) -> None:
    count = len(elements)
    for shape in ([count], [count, 1]):
        assert pictures_of(tensor(shape, joined(elements))) == elements
        assert pictures_of(tensor(shape, memoryview(joined(elements)))) == elements
        assert pictures_of(tensor(shape, elements)) == elements


def test_one_element_may_come_without_its_length() -> None:
    assert pictures_of(tensor([1], b"\xff\xd8\xff\xe0 and so on")) == [b"\xff\xd8\xff\xe0 and so on"]
    assert pictures_of(tensor([1], b"GIF")) == [b"GIF"]
    with pytest.raises(BadParameter, match="element 0 has"):
        pictures_of(tensor([2], b"\xff\xd8\xff\xe0 and so on"))


@pytest.mark.parametrize(
    ("shape", "content", "words"),
    [
        ([2**60 + 2, 16], b"", "has the shape"),
        ([2**63], b"", "has the shape"),
        ([-1], b"", "has the shape"),
        ([1] * 9, b"", "has the shape"),
        ([2, 2], joined([b"a"] * 4), "expected [N] or [N, 1]"),
        ([], b"", "expected [N] or [N, 1]"),
        ([2], joined([b"abcdef"]), "has 1 elements; expected 2"),
        ([2], joined([b"a"]), "has 5 bytes; expected 2 elements"),
        ([2**60], joined([b"a"]), "has 5 bytes; expected 1152921504606846976 elements"),
        ([1], joined([b"a", b"b"]), "more elements than the 1"),
        ([2], joined([b"abcd"]) + b"\x01\x02", "element 1 has"),
        ([2], joined([b"a"]) + b"\xff\xff\xff\xffab", "element 1 has 4294967295 bytes; 2 are left"),
        ([3], [b"a"], "has 1 elements; expected 3"),
        ([2**62], [b"a"], "has 1 elements"),
    ],
)
def test_lengths_and_shapes_that_lie_are_named(shape: list[int], content: Any, words: str) -> None:
    with pytest.raises(BadParameter) as told:
        pictures_of(tensor(shape, content))
    assert words in str(told.value)
    assert "'image'" in str(told.value)


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("way", ["raw", "flat", "nested"])
def test_pixels_of_any_layout_and_type_are_the_same_pictures(datatype: str, layout: str, way: str) -> None:
    laid = RAMP if layout == "NHWC" else RAMP.transpose(0, 3, 1, 2)
    typed = laid.astype({"UINT8": "u1", "FP32": "<f4"}[datatype])
    content = {"raw": typed.tobytes(), "flat": typed.ravel().tolist(), "nested": typed.tolist()}[way]
    found = pictures_of(tensor(typed.shape, content, datatype))
    assert all(isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.flags.c_contiguous for one in found)
    assert np.array_equal(np.stack(found), RAMP)  # type: ignore[arg-type]
    (alone,) = pictures_of(tensor(typed.shape[1:], typed[0].tobytes(), datatype))
    assert np.array_equal(alone, RAMP[0])  # type: ignore[arg-type]


def test_grey_pixels_and_fractions_near_whole_ones() -> None:
    (grey,) = pictures_of(tensor([1, 2, 2, 1], [0, 254.6, 1.4, 255], "FP32"))
    assert grey.tolist() == [[[0], [255]], [[1], [255]]]  # type: ignore[union-attr]
    (black,) = pictures_of(tensor([1, 1, 1, 3], [0, 0, 1], "FP32"))
    assert black.tolist() == [[[0, 0, 1]]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("datatype", "shape", "content", "words"),
    [
        ("INT64", [1, 1, 1, 3], b"\0" * 24, "expected BYTES, UINT8 or FP32"),
        ("UINT8", [1, 1, 1, 3], b"\0\0", "has 2 bytes; expected 3"),
        ("FP32", [1, 1, 1, 3], b"\0" * 11, "has 11 bytes; expected 12"),
        ("UINT8", [1, 2, 2, 2], b"\0" * 8, "with 1 or 3 channels"),
        ("UINT8", [3], b"\0" * 3, "with 1 or 3 channels"),
        ("UINT8", [1, 0, 1, 3], b"", "has the shape [1, 0, 1, 3]"),
        ("UINT8", [0, 1, 1, 3], b"", "has the shape [0, 1, 1, 3]"),
        ("FP32", [1, 1, 1, 3], np.array([0, 0.5, 1], "<f4").tobytes(), "as if divided by 255"),
        ("FP32", [1, 1, 1, 3], np.array([0, np.nan, 1], "<f4").tobytes(), "nan"),
        ("FP32", [1, 1, 1, 3], np.array([0, np.inf, 1], "<f4").tobytes(), "inf"),
        ("FP32", [1, 1, 1, 3], [-1, 0, 0], "from -1 to 0"),
        ("FP32", [1, 1, 1, 3], [0, 256, 0], "from 0 to 256"),
        ("UINT8", [1, 1, 1, 3], [0, 256, 0], "from 0 to 256"),
        ("FP32", [1, 1, 1, 3], [0, "1", 0], "something else than numbers"),
        ("FP32", [1, 1, 1, 3], [0, True, 0], "something else than numbers"),
        ("FP32", [1, 1, 1, 3], [0, 10**400, 0], "more digits"),
        ("FP32", [1, 1, 1, 3], [[[[[[[[[[[0]]]]]]]]]]], "elements"),
    ],
)
def test_pixels_that_are_none_are_told_why(datatype: str, shape: list[int], content: Any, words: str) -> None:
    with pytest.raises(BadParameter) as told:
        pictures_of(tensor(shape, content, datatype))
    assert words in str(told.value)


def test_the_number_of_elements_is_exact_however_large() -> None:
    assert num_elements(tensor([2**40, 2**40], b"")) == 2**80


def test_millions_of_tiny_pictures_are_refused_before_any_is_made() -> None:
    for one in (
        tensor([5_000_000], bytes(20_000_000)),
        tensor([20_000_000, 1, 1, 1], bytes(20_000_000), "UINT8"),
        tensor([10_000], [b"a"] * 10_000),
    ):
        started = time.process_time()
        with pytest.raises(TooManyBytes, match=r"has \d+ pictures; expected at most 4096"):
            pictures_of(one)
        assert time.process_time() - started < 0.5  # where each were made it would be many seconds
    assert len(pictures_of(tensor([MOST_PICTURES], bytes(4 * MOST_PICTURES)))) == MOST_PICTURES
    (limit,) = (one.le for one in Settings.model_fields["max_images_per_request"].metadata if hasattr(one, "le"))
    assert limit == MOST_PICTURES
