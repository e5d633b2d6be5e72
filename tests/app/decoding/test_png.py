"""Profiles and notes of a PNG, which are small until they are unfolded."""

import pytest

from app.decoding.png import expect_few_unfolding
from app.errors import BadImage
from tests.app.color_bundle import RED, image


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt", b"iTXt"])
def test_so_many_unfold_and_no_more(name: bytes) -> None:
    whole = image(RED).ljust(64_001, b"\0")
    expect_few_unfolding(whole + name * 64)
    with pytest.raises(BadImage, match=r"^The PNG has 65 compressed profiles and notes; expected at most 64\.$"):
        expect_few_unfolding(whole + name * 65)


def test_a_small_file_cannot_unfold_for_long_and_is_not_counted() -> None:
    expect_few_unfolding(image(RED) + b"iCCP" * 100)


def test_another_format_may_hold_those_names() -> None:
    expect_few_unfolding(image(RED, kind="TIFF").ljust(64_001, b"\0") + b"iCCP" * 100)
