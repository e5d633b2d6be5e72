"""Colors of an embedded profile become those of sRGB; what LittleCMS is given is only what was checked."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from model.color_profiles import MAX_BYTES, matters, to_srgb
from model.preprocess import to_pixels
from tests.model.icc_profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    SRGB_CURVE,
    gamma,
    grey_profile,
    ink_profile,
    profile,
    rgb_profile,
)

P3 = rgb_profile(DISPLAY_P3)
ORANGE, ORANGE_OF_P3, ORANGE_OF_ADOBE = (200, 100, 50), (215, 93, 31), (227, 100, 42)
TABLE = struct.pack(
    ">4s4xI1024H", b"curv", 1024, *(min(65535, round(65535 * (at / 1023) ** 2.2)) for at in range(1024))
)


def seen(image: Image.Image, content: bytes, kind: str = "PNG", channels: int = 3) -> list[int]:
    """The first pixel of a file with that profile."""
    file = io.BytesIO()
    image.save(file, kind, icc_profile=content)
    with Image.open(file) as opened:
        return [int(level) for level in to_pixels(opened, channels)[0, 0]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_colors_become_those_of_srgb(kind: str) -> None:
    assert seen(Image.new("RGB", (16, 16), ORANGE), P3, kind) == pytest.approx(ORANGE_OF_P3, abs=4)


def test_curves_are_a_gamma_a_table_or_a_formula() -> None:
    orange = Image.new("RGB", (1, 1), ORANGE)
    assert seen(orange, rgb_profile(ADOBE_RGB, gamma(2.19921875))) == list(ORANGE_OF_ADOBE)
    assert seen(orange, rgb_profile(ADOBE_RGB, TABLE)) == list(ORANGE_OF_ADOBE)
    assert seen(orange, P3) == list(ORANGE_OF_P3)


def test_opacity_stays_as_it_is_and_colors_are_converted_before_they_lie_over_white() -> None:
    assert to_srgb(Image.new("RGBA", (1, 1), (*ORANGE, 77)), P3).getpixel((0, 0)) == (*ORANGE_OF_P3, 77)
    half = seen(Image.new("RGBA", (1, 1), (*ORANGE, 128)), P3)
    assert half == pytest.approx([(level + 255) / 2 for level in ORANGE_OF_P3], abs=1)


def test_a_palette_is_converted_with_its_transparency() -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([*ORANGE] * 256)
    assert seen(image, P3) == list(ORANGE_OF_P3)
    image.info["transparency"] = 0
    assert seen(image, P3) == [255, 255, 255]


def test_the_grey_of_a_profile_becomes_that_of_srgb() -> None:
    assert [seen(Image.new("L", (1, 1), level), grey_profile(gamma(1.8)))[0] for level in (0, 50, 128, 255)] == [
        0,
        65,
        146,
        255,
    ]
    assert to_srgb(Image.new("LA", (1, 1), (128, 9)), grey_profile(gamma(1.8))).getpixel((0, 0)) == (146, 9)


def test_a_transparent_grey_is_found_by_the_value_that_is_in_the_file() -> None:
    image = Image.new("L", (1, 1), 128)
    image.info["transparency"] = 128
    assert to_srgb(image, grey_profile(gamma(1.8))).getpixel((0, 0)) == (146, 0)


def test_a_grey_model_sees_the_luma_of_the_converted_color() -> None:
    assert seen(Image.new("RGB", (1, 1), ORANGE), P3, channels=1) == [122]  # of ORANGE it is 124


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks_become_what_the_table_of_their_press_says(kind: str) -> None:
    assert seen(Image.new("CMYK", (16, 16), (0, 0, 0, 128)), ink_profile(), kind) == pytest.approx([118] * 3, abs=2)


@pytest.mark.parametrize(
    "content", [rgb_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()]
)
def test_srgb_itself_costs_nothing_and_changes_nothing(content: bytes) -> None:
    assert not matters(content)
    image = Image.new("RGB", (1, 1), ORANGE)
    assert to_srgb(image, content) is image


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"profile",
        P3[:100],
        P3[:200],
        P3.replace(b"acsp", b"ACSP"),
        P3.replace(b"rTRC", b"aTRC"),
        P3 + bytes(MAX_BYTES),
        grey_profile(gamma(1.8)),  # for another mode
        profile(b"RGB ", b"XYZ ", {b"A2B0": bytes(100)}),
        rgb_profile(DISPLAY_P3, struct.pack(">4s4xI", b"curv", 2**31)),
        rgb_profile(DISPLAY_P3, struct.pack(">4s4xH2x", b"para", 9)),
    ],
)
def test_a_profile_that_is_broken_or_unknown_is_passed_over(content: bytes) -> None:
    image = Image.new("RGB", (1, 1), ORANGE)
    assert to_srgb(image, content).getpixel((0, 0)) == ORANGE


def test_seen_twice_a_picture_is_converted_once() -> None:
    file = io.BytesIO()
    Image.new("RGB", (1, 1), ORANGE).save(file, "PNG", icc_profile=P3)
    with Image.open(file) as image:
        assert to_pixels(image, 3).tolist() == to_pixels(image, 3).tolist() == [[[*ORANGE_OF_P3]]]


MODES = {
    "RGB": P3,
    "RGBA": rgb_profile(ADOBE_RGB, TABLE),
    "L": grey_profile(SRGB_CURVE[:-4] + bytes(4)),
    "CMYK": ink_profile(3),
}


@pytest.mark.heavy
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(MODES)),
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), max_size=6),
)
def test_whatever_is_written_into_a_profile_the_picture_has_its_size(
    mode: str, scribbles: list[tuple[int, bytes]]
) -> None:
    content = bytearray(MODES[mode])
    for at, scribble in scribbles:
        content[at : at + len(scribble)] = scribble
    assert to_srgb(Image.new(mode, (3, 2)), bytes(content)).size == (3, 2)
