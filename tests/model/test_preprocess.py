import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from model.preprocess import patchify, seen_region, smallest_useful_side, to_patches, to_pixels, to_square, to_view
from model.spec import Fit
from model.tilt import packed
from tests.model.toys import random_pixels, toy_spec

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
MODES = (  # every mode that Pillow can open a file as; "La" only arises by conversion
    *("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"),
    *("LA", "PA", "RGBX", "RGBa", "I;16", "I;16L", "I;16B"),
)


def _reopened(image: Image.Image, kind: str = "PNG", **options: Any) -> Image.Image:
    """The picture as a service meets it: written to a file and opened again."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return Image.open(file)


def _grey(values: Any, dtype: Any) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=dtype))


# --- patchify ---


def test_patches_are_in_raster_order_and_their_elements_in_row_column_channel_order() -> None:
    pixels = np.arange(4 * 4 * 2).reshape(4, 4, 2)  # a pixel at (row, column) holds 8 row + 2 column + channel
    assert patchify(pixels, 2).tolist() == [
        [0, 1, 2, 3, 8, 9, 10, 11],
        [4, 5, 6, 7, 12, 13, 14, 15],
        [16, 17, 18, 19, 24, 25, 26, 27],
        [20, 21, 22, 23, 28, 29, 30, 31],
    ]


@st.composite
def _patchable(draw: st.DrawFn) -> tuple[NDArray[np.uint8], int]:
    patch_size, rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    lead = draw(array_shapes(min_dims=1, max_dims=2, max_side=2)) if draw(st.booleans()) else ()
    shape = (*lead, rows * patch_size, columns * patch_size, draw(st.sampled_from([1, 3])))
    return draw(arrays(np.uint8, shape)), patch_size


@given(_patchable())
def test_every_patch_is_the_block_of_pixels_at_its_place(case: tuple[NDArray[np.uint8], int]) -> None:
    pixels, size = case
    patches = patchify(pixels, size)
    columns = pixels.shape[-2] // size
    assert patches.shape[-2] == (pixels.shape[-3] // size) * columns
    for index in range(patches.shape[-2]):
        top, left = index // columns * size, index % columns * size
        block = pixels[..., top : top + size, left : left + size, :]
        np.testing.assert_array_equal(patches[..., index, :], block.reshape(*block.shape[:-3], -1))


@given(_patchable())
def test_numpy_and_torch_cut_alike(case: tuple[NDArray[np.uint8], int]) -> None:
    pixels, size = case
    np.testing.assert_array_equal(patchify(torch.from_numpy(pixels), size).numpy(), patchify(pixels, size))


# --- to_pixels: orientation ---


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright, 1)),  # stored a quarter turn counter-clockwise
        (7, lambda upright: upright[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, stored: Any, kind: str) -> None:
    upright = random_pixels(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = _reopened(Image.fromarray(np.ascontiguousarray(stored(upright))), kind, exif=exif)
    np.testing.assert_array_equal(to_pixels(image, 3), upright)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"xmp": b'<rdf tiff:Orientation="6"/>', "quality": 95, "subsampling": 0}),
        ("WEBP", {"xmp": b'<rdf tiff:Orientation="6"/>', "lossless": True}),
        ("PNG", {"XML:com.adobe.xmp": '<rdf tiff:Orientation="6"/>'}),
        (
            "PNG",
            {
                "Raw profile type exif": "\nexif\n 26\n"
                + "49492a00080000000100"
                + "120103000100000006000000"
                + "00000000"
            },
        ),
    ],
)
def test_orientation_is_found_wherever_it_stands(kind: str, options: dict[str, Any]) -> None:
    if kind == "PNG":
        texts = PngInfo()
        for name, text in options.items():
            texts.add_itxt(name, text)
        options = {"pnginfo": texts}
    lying = np.zeros((8, 16, 3), np.uint8)
    lying[:, 8:] = 255
    upright = to_pixels(_reopened(Image.fromarray(lying), kind, **options), 3)
    assert upright.shape == (16, 8, 3)
    assert upright[0].max() < 9
    assert upright[-1].min() > 246


def test_broken_exif_beside_the_orientation_does_not_spoil_the_picture() -> None:
    entries = struct.pack("<HHI4s", 0x0100, 2, 4, b"abc\0") + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0)  # a width that is a text
    image = _reopened(Image.new("RGB", (6, 4)), "JPEG", exif=exif)
    assert to_pixels(image, 3).shape == (6, 4, 3)


# --- to_pixels: transparency ---


@pytest.mark.parametrize(("alpha", "expected"), [(0, (255, 255, 255)), (128, (255, 127, 127)), (255, (255, 0, 0))])
def test_rgba_lies_over_white(alpha: int, expected: tuple[int, ...]) -> None:
    image = _reopened(Image.new("RGBA", (1, 1), (255, 0, 0, alpha)))
    np.testing.assert_allclose(to_pixels(image, 3)[0, 0], expected, atol=1)


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (128, 127), (255, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_la_lies_over_white(alpha: int, expected: int, channels: int) -> None:
    image = _reopened(Image.new("LA", (1, 1), (0, alpha)))
    np.testing.assert_allclose(to_pixels(image, channels)[0, 0], [expected] * channels, atol=1)


def test_pa_lies_over_white() -> None:
    image = Image.new("PA", (2, 1))
    image.putpalette([0, 0, 255])
    image.putpixel((0, 0), (0, 0))
    image.putpixel((1, 0), (0, 255))
    assert to_pixels(image, 3).tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_lies_over_white(kind: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 0, 255, 0])
    image.putpixel((1, 0), 1)
    opened = _reopened(image, kind, transparency=0)
    assert to_pixels(opened, 3).tolist() == [[[255, 255, 255], [0, 255, 0]]]


def test_palette_entries_with_alpha_of_their_own_lie_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    opened = _reopened(image, transparency=b"\x80\xff")
    np.testing.assert_allclose(to_pixels(opened, 3), [[[127, 127, 127], [0, 255, 0]]], atol=1)


def test_the_transparent_colour_of_an_rgb_picture_is_white() -> None:
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    assert to_pixels(_reopened(image, transparency=(1, 2, 3)), 3).tolist() == [[[255, 255, 255], [9, 9, 9]]]


# --- to_pixels: depths and colours ---


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_grey_is_scaled_to_8_bits(channels: int) -> None:
    opened = _reopened(_grey([0, 257, 51143, 65535], np.uint16))
    assert opened.mode == "I;16"
    assert to_pixels(opened, channels).tolist() == [[[value] * channels for value in (0, 1, 199, 255)]]


def test_big_endian_16_bit_grey_is_the_same() -> None:
    image = Image.frombytes("I;16B", (2, 1), b"\x01\x01\xff\xff")
    assert to_pixels(image, 1).ravel().tolist() == [1, 255]


def test_a_16_bit_picture_stays_16_bit_however_dark() -> None:
    assert to_pixels(_reopened(_grey([0, 128, 255], np.uint16)), 1).ravel().tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 100, 255], [0, 100, 255]), ([0, 25700, 65535], [0, 100, 255]), ([-5, 0, 99999], [0, 0, 255])],
)
def test_32_bit_integers_are_8_bits_or_16(values: list[int], expected: list[int]) -> None:
    assert to_pixels(_grey(values, np.int32), 1).ravel().tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 99.6, 255.0], [0, 100, 255]),
        ([-1.0, 2.0, 300.0], [0, 2, 255]),
        ([0.0, 200.0, float("nan")], [0, 200, 0]),
        ([0.0, 200.0, float("inf")], [0, 200, 255]),
        ([-float("inf"), 0.2, 1.0], [0, 51, 255]),
    ],
)
def test_floats_are_fractions_or_8_bit_values(values: list[float], expected: list[int]) -> None:
    assert to_pixels(_grey(values, np.float32), 1).ravel().tolist() == expected


def test_a_hole_in_a_picture_of_fractions_leaves_them_fractions() -> None:
    assert to_pixels(_grey([float("nan"), 0.2, 1.0], np.float32), 1).ravel().tolist() == [0, 51, 255]


@pytest.mark.parametrize(
    ("ink", "expected"),
    [((255, 0, 0, 0), [0, 255, 255]), ((0, 0, 0, 0), [255, 255, 255]), ((0, 0, 0, 255), [0, 0, 0])],
)
def test_cmyk_is_ink_on_white(ink: tuple[int, ...], expected: list[int]) -> None:
    image = _reopened(Image.new("CMYK", (1, 1), ink), "TIFF")
    assert to_pixels(image, 3)[0, 0].tolist() == expected


def test_one_bit_is_black_and_white() -> None:
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    assert to_pixels(_reopened(image), 3).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_grey_is_repeated_for_a_colour_network_and_colour_becomes_luma_for_a_grey_one() -> None:
    assert to_pixels(Image.new("L", (1, 1), 77), 3).tolist() == [[[77, 77, 77]]]
    assert to_pixels(Image.new("RGB", (1, 1), (255, 0, 0)), 1).tolist() == [[[76]]]  # 0.299 * 255


@given(mode=st.sampled_from(MODES), width=st.integers(1, 9), height=st.integers(1, 9), channels=st.sampled_from([1, 3]))
def test_every_mode_becomes_uint8_height_width_channels(mode: str, width: int, height: int, channels: int) -> None:
    pixels = to_pixels(Image.new(mode, (width, height)), channels)
    assert (pixels.shape, pixels.dtype) == ((height, width, channels), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_a_file_cut_short_is_an_error_of_pillows(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(random_pixels(32, 32, 3)).save(file, kind)
    cut = file.getvalue()[: len(file.getvalue()) // 2]
    with pytest.raises((OSError, ValueError, SyntaxError)), Image.open(io.BytesIO(cut)) as image:
        to_pixels(image, 3)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_what_has_the_right_mode_already_keeps_its_values(channels: int, mode: str) -> None:
    pixels = random_pixels(70, 130, channels)  # RGB is taken out of Pillow in several pieces
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    assert image.mode == mode
    np.testing.assert_array_equal(to_pixels(image, channels), pixels)


# --- to_square ---


@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))),
    image_size=st.integers(1, 24),
    mode=st.sampled_from(["crop", "pad", "stretch"]),
    percentage=st.floats(0, 1, exclude_min=True),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_any_picture_becomes_the_square(
    pixels: NDArray[np.uint8], image_size: int, mode: Any, percentage: float, interpolation: Any
) -> None:
    square = to_square(pixels, image_size, Fit(mode=mode, crop_percentage=percentage), interpolation)
    assert (square.shape, square.dtype) == ((image_size, image_size, pixels.shape[2]), np.uint8)


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_picture_of_the_right_size_is_untouched(mode: Any, channels: int, interpolation: Any) -> None:
    pixels = random_pixels(12, 12, channels)
    np.testing.assert_array_equal(to_square(pixels, 12, Fit(mode=mode), interpolation), pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", [Fit(), Fit(mode="pad"), Fit(mode="stretch")])
def test_what_is_fitted_already_is_what_pillow_would_make_of_it(channels: int, fit: Fit) -> None:
    pixels = random_pixels(12, 12, channels)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    resized = np.asarray(image.resize((12, 12), Image.Resampling.BICUBIC)).reshape(12, 12, channels)
    np.testing.assert_array_equal(to_square(pixels, 12, fit, "bicubic"), resized)
    assert to_square(pixels, 12, fit, "bicubic") is pixels


def test_the_right_size_alone_is_not_fitted() -> None:
    pixels = random_pixels(12, 12, 3)
    assert (to_square(pixels, 12, Fit(crop_percentage=0.5), "bicubic") != pixels).any()
    assert to_square(random_pixels(12, 13, 3), 12, Fit(), "bicubic").shape == (12, 12, 3)


@pytest.mark.parametrize(("height", "width"), [(6, 10), (10, 6)])
def test_crop_takes_the_centre_of_the_longer_side(height: int, width: int) -> None:
    pixels = random_pixels(height, width, 3)
    expected = pixels[(height - 6) // 2 :, (width - 6) // 2 :][:6, :6]
    np.testing.assert_array_equal(to_square(pixels, 6, Fit(), "bicubic"), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_percentage_picks_the_central_part(channels: int) -> None:
    image = random_pixels(16, 24, channels)
    np.testing.assert_array_equal(to_square(image, 8, Fit(crop_percentage=0.5), "bicubic"), image[4:12, 8:16])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_crop_ignores_the_frame_beyond_the_reach_of_the_filter(interpolation: Any) -> None:
    image, other_frame = random_pixels(40, 60, 3, seed=1), random_pixels(40, 60, 3, seed=2)
    other_frame[4:36, 14:46] = image[4:36, 14:46]  # the central 20x20 and 6 pixels around, lanczos' reach at half size
    fit = Fit(crop_percentage=0.5)
    square = to_square(image, 10, fit, interpolation)
    np.testing.assert_array_equal(square, to_square(other_frame, 10, fit, interpolation))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_crop_is_the_papers_resize_to_256_and_central_224(interpolation: Any) -> None:
    image = random_pixels(64, 64, 3)
    whole = to_square(image, 32, Fit(), interpolation)
    square = to_square(image, 28, Fit(crop_percentage=0.875), interpolation)
    np.testing.assert_array_equal(square, whole[2:30, 2:30])


def test_stretch_gives_up_the_aspect_ratio_and_keeps_everything() -> None:
    pixels = random_pixels(4, 4, 3)
    np.testing.assert_array_equal(to_square(pixels.repeat(3, axis=1), 4, Fit(mode="stretch"), "box"), pixels)


@pytest.mark.parametrize("border", [(255, 255, 255), (0, 0, 0), (200, 30, 90), (255,), (0,), (77,)])
@pytest.mark.parametrize("tall", [True, False])
def test_pad_keeps_the_whole_picture_and_goes_on_with_its_border(border: tuple[int, ...], tall: bool) -> None:
    image = np.empty((12, 6, len(border)), np.uint8)
    image[:] = border
    image[3:9, 2:4] = random_pixels(6, 2, len(border))
    expected = np.empty((12, 12, len(border)), np.uint8)
    expected[:] = border
    expected[:, 3:9] = image
    if not tall:
        image, expected = image.swapaxes(0, 1), expected.swapaxes(0, 1)
    np.testing.assert_array_equal(to_square(image, 12, Fit(mode="pad"), "bicubic"), expected)


def test_pad_looks_for_the_border_where_the_strips_will_be() -> None:
    image = np.full((12, 6, 3), 50, np.uint8)
    image[:, [0, -1]] = 200  # left and right, beside the strips
    image[[0, -1], 1:-1] = 9  # top and bottom, far from them
    square = to_square(image, 12, Fit(mode="pad"), "bicubic")
    assert (square[:, :3] == 200).all()
    assert (square[:, 9:] == 200).all()


def test_pad_keeps_a_line_of_pixels_visible() -> None:
    line = np.full((500, 1, 1), 90, np.uint8)
    assert (to_square(line, 8, Fit(mode="pad"), "bicubic") == 90).all()


# --- to_square: a dark background ---

SQUARES = st.integers(1, 9).flatmap(
    lambda side: arrays(np.uint8, st.tuples(st.just(side), st.just(side), st.sampled_from([1, 3])))
)


def _border_mean(square: NDArray[np.uint8]) -> float:
    """Of the outermost pixels, each once."""
    inner = np.zeros(square.shape[:2], dtype=bool)
    inner[1:-1, 1:-1] = True
    return float(square[~inner].mean())


def _before_dark(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return to_square(square, len(square), Fit(background="dark"), "bicubic")


@given(SQUARES)
def test_a_square_and_its_negative_become_the_same_one_before_a_dark_background(square: NDArray[np.uint8]) -> None:
    assume(_border_mean(square) != 127.5)
    np.testing.assert_array_equal(_before_dark(square), _before_dark(255 - square))


@given(SQUARES)
def test_a_light_border_inverts_all_of_a_square_and_a_dark_one_nothing(square: NDArray[np.uint8]) -> None:
    assume(len(square) > 1)
    expected = 255 - square if _border_mean(square) > 127.5 else square
    np.testing.assert_array_equal(_before_dark(square), expected)


@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]))),
    image_size=st.integers(1, 12),
    mode=st.sampled_from(["crop", "pad", "stretch"]),
)
def test_whatever_the_fit_it_is_the_squares_own_border_that_decides(
    pixels: NDArray[np.uint8], image_size: int, mode: Any
) -> None:
    fitted = to_square(pixels, image_size, Fit(mode=mode), "bicubic")
    found = to_square(pixels, image_size, Fit(mode=mode, background="dark"), "bicubic")
    np.testing.assert_array_equal(found, _before_dark(fitted))
    np.testing.assert_array_equal(_before_dark(found), found)  # once is enough


@pytest.mark.parametrize("channels", [1, 3])
def test_a_border_exactly_in_the_middle_is_left_as_it_is_and_one_level_more_is_not(channels: int) -> None:
    square = np.full((4, 4, channels), 0, np.uint8)
    square[[0, 3]] = [[[255], [255], [0], [255]]]  # all four corners, which belong to two sides each
    square[1:3, 1:3] = 200
    assert _border_mean(square) == 127.5
    np.testing.assert_array_equal(_before_dark(square), square)
    square[1, 0, 0] += 1
    np.testing.assert_array_equal(_before_dark(square), 255 - square)


def test_a_colour_is_as_light_as_its_channels_are_on_average() -> None:
    red, yellow = (np.full((3, 3, 3), color, np.uint8) for color in ((255, 0, 0), (255, 255, 0)))
    np.testing.assert_array_equal(_before_dark(red), red)
    np.testing.assert_array_equal(_before_dark(yellow), np.full((3, 3, 3), (0, 0, 255), np.uint8))


def test_a_frame_that_is_cropped_away_does_not_count() -> None:
    framed = np.full((12, 12, 1), 255, np.uint8)
    framed[2:10, 2:10] = 20
    fit = Fit(crop_percentage=0.5, background="dark")
    assert (to_square(framed, 6, fit, "nearest") == 20).all()


def test_the_strips_of_pad_count_as_border() -> None:
    image = np.full((12, 4, 1), 250, np.uint8)
    image[:, 1:3] = 10
    square = to_square(image, 12, Fit(mode="pad", background="dark"), "bicubic")
    assert (square[:, [0, -1]] == 5).all()
    assert (square[:, 5:7] == 245).all()


def test_the_service_inverts_as_training_does() -> None:
    spec = toy_spec(fit=Fit(mode="pad", background="dark"))
    light = np.full((8, 8, 1), 230, np.uint8)
    light[2:5, 3] = 20
    np.testing.assert_array_equal(to_patches(light, spec), patchify(255 - light, 4))


# --- to_square: a black background, and a frame around the thing ---

BLACK = Fit(mode="pad", background="black")
FRAMED = Fit(mode="pad", background="black", frame="thing")


def _thing(side: int = 28, channels: int = 1) -> NDArray[np.uint8]:
    """A shape of many levels before black, as high as the square: uint8 [side, side, channels]."""
    square = np.zeros((side, side, channels), np.uint8)
    rows, columns = np.mgrid[:side, side // 4 : side - side // 4]
    square[:, side // 4 : side - side // 4] = (80 + 5 * rows + columns)[:, :, None].clip(0, 255)
    return square


@pytest.mark.parametrize("fit", [BLACK, FRAMED])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_thing_that_fills_its_square_before_black_is_left_as_it_is(fit: Fit, channels: int) -> None:
    square = _thing(channels=channels)
    np.testing.assert_array_equal(to_square(square, 28, fit, "bicubic"), square)


@pytest.mark.parametrize("level", [1, 40, 80])
def test_a_grey_background_becomes_black_and_white_stays_white(level: int) -> None:
    square = _thing()
    square[10, 10] = 255
    grey = (level + square.astype(float) * (255 - level) / 255).round().astype(np.uint8)
    found = to_square(grey, 28, BLACK, "bicubic")
    assert np.abs(found.astype(int) - square).max() <= 2
    np.testing.assert_array_equal(found, to_square(255 - grey, 28, BLACK, "bicubic"))


def test_each_channel_has_a_level_of_its_own() -> None:
    square = np.full((8, 8, 3), (90, 10, 0), np.uint8)
    square[2:6, 2:6] = (255, 255, 130)
    found = to_square(square, 8, BLACK, "bicubic")
    assert not found[0].any()
    assert found[3, 3].tolist() == [255, 255, 130]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_thing_in_an_empty_room_is_seen_as_if_it_filled_the_picture(share: float, interpolation: Any) -> None:
    near = np.asarray(Image.fromarray(_thing()[:, :, 0]).resize((200, 200), Image.Resampling.BICUBIC))
    far = np.full((400, 300), 255, np.uint8)
    side = round(300 * share)
    far[30 : 30 + side, 40 : 40 + side] = 255 - np.asarray(Image.fromarray(near).resize((side, side)))
    found = to_square(far[:, :, None], 28, FRAMED, interpolation)
    expected = to_square(near[:, :, None], 28, FRAMED, interpolation)
    assert np.abs(found.astype(int) - expected).mean() < 15
    assert np.abs(to_square(far[:, :, None], 28, BLACK, interpolation).astype(int) - expected).mean() > 40


def test_a_speck_is_no_thing() -> None:
    square = np.zeros((28, 28, 1), np.uint8)
    square[3:5, 20:23] = 255
    np.testing.assert_array_equal(to_square(square, 28, FRAMED, "bicubic"), square)


def test_a_thing_at_the_border_gets_no_more_than_the_picture_has() -> None:
    square = np.zeros((28, 28, 1), np.uint8)
    square[:14, 4:12] = 200
    found = to_square(square, 28, FRAMED, "nearest")
    assert (found[:, 6:22] == 200).all()
    assert not found[:, :6].any()
    assert not found[:, 22:].any()


def test_a_frame_around_a_thing_takes_a_black_background() -> None:
    with pytest.raises(ValidationError, match="frame is thing and background is dark; expected black"):
        Fit(background="dark", frame="thing")


def test_the_view_of_a_framed_square_is_a_part_of_it() -> None:
    far = np.zeros((100, 100, 1), np.uint8)
    far[20:60, 30:70] = np.asarray(Image.fromarray(_thing()[:, :, 0]).resize((40, 40)))[:, :, None]
    square = to_square(far, 32, FRAMED, "bicubic")
    np.testing.assert_array_equal(to_view(far, (0, 0, 1, 1), 32, FRAMED, "bicubic"), square)
    quarter = to_view(far, (0.25, 0.5, 0.75, 1), 16, FRAMED, "bicubic")
    np.testing.assert_array_equal(quarter, square[16:, 8:24])


@pytest.mark.parametrize(("shape", "upload"), [((28, 28), (280, 280)), ((56, 28), (280, 560))])
def test_the_region_that_is_seen_is_the_frame(shape: tuple[int, int], upload: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 1), np.uint8)
    pixels[6:18, 8:14] = 200
    spec = toy_spec(image_size=28, fit=FRAMED)
    (left, top, right, bottom), _ = seen_region(pixels, spec, *upload)
    assert (top, bottom, right - left) == pytest.approx((60, 180, 120), abs=21)
    assert (left + right) / 2 == pytest.approx(110, abs=11)
    whole = spec.model_copy(update={"fit": BLACK})
    assert seen_region(pixels, whole, *upload)[0][3] == upload[1]
    assert seen_region(np.zeros_like(pixels), spec, *upload) == seen_region(pixels, whole, *upload)


# --- to_square: a thing that is turned ---


STRAIGHT = Fit(
    mode="pad",
    background="black",
    frame="thing",
    tilt=packed(((np.zeros((4, 1), np.float32), np.zeros(1, np.float32)),), beyond=9),
)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """By how many degrees everything is turned, as if the network of STRAIGHT said so."""
    return lambda degrees: monkeypatch.setattr(
        "model.tilt.degrees_of", lambda squares, _: np.full(len(squares), degrees, np.float32)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("degrees", [-30, 20])
@pytest.mark.parametrize("light", [False, True])
def test_a_thing_that_is_turned_is_turned_back_whatever_its_ground(
    says: Callable[[float], None], channels: int, degrees: int, light: bool
) -> None:
    says(degrees)
    picture = np.zeros((300, 400), np.uint8)
    picture[80:220, 160:260] = _thing(140)[:, 20:120, 0]
    turned = np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC))
    upright, given = (
        np.repeat(values[:, :, None], channels, axis=2) for values in (picture, 255 - turned if light else turned)
    )
    expected = to_square(upright, 28, FRAMED, "bicubic").astype(int)
    left_as_it_is = np.abs(to_square(given, 28, FRAMED, "bicubic") - expected).mean()
    assert np.abs(to_square(given, 28, STRAIGHT, "bicubic") - expected).mean() < left_as_it_is / 3


def test_a_thing_that_is_turned_by_no_more_than_the_limit_is_left_as_it_is(says: Callable[[float], None]) -> None:
    square = _thing()
    for degrees in (9, -9, 180, np.inf, -np.inf, np.nan):  # no angle, as of weights that are no numbers
        says(degrees)
        assert to_square(square, 28, STRAIGHT, "bicubic") is square
    for degrees in (9.5, -9.5):
        says(degrees)
        assert (to_square(square, 28, STRAIGHT, "bicubic") != square).any()


def test_a_large_picture_is_reduced_before_it_is_turned(says: Callable[[float], None]) -> None:
    says(20)
    sides = []
    picture = np.zeros((1200, 900, 1), np.uint8)
    picture[100:1100, 300:600] = 200
    rotate = Image.Image.rotate

    def noted(image: Image.Image, *args: Any, **kwargs: Any) -> Image.Image:
        sides.append(image.size)
        return rotate(image, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "rotate", noted)
        to_square(picture, 28, STRAIGHT, "bicubic")
    assert sides == [(168, 224)]


@pytest.mark.parametrize("scale", [1, 10])
def test_the_region_of_a_thing_that_is_turned_is_that_of_the_picture_turned_back_around_its_middle(
    says: Callable[[float], None], scale: int
) -> None:
    says(20)
    upright = np.zeros((200, 300, 1), np.uint8)
    upright[60:140, 100:150] = 200
    turned = np.asarray(Image.fromarray(upright[:, :, 0]).rotate(20, Image.Resampling.BICUBIC))[:, :, None]
    spec = toy_spec(image_size=28, fit=STRAIGHT)
    region, degrees = seen_region(turned, spec, 300 * scale, 200 * scale)
    assert degrees == 20
    plain, none = seen_region(upright, toy_spec(image_size=28, fit=FRAMED), 300 * scale, 200 * scale)
    assert none == 0
    assert region == pytest.approx(plain, abs=8 * scale)


@pytest.mark.parametrize(("image_size", "most"), [(28, 224), (64, 512), (224, 512), (384, 768)])
def test_a_picture_is_turned_at_a_size_that_bounds_what_it_costs(
    says: Callable[[float], None], image_size: int, most: int
) -> None:
    says(20)
    sides = []
    picture = np.zeros((3000, 20, 1), np.uint8)
    picture[500:2500] = 200
    with pytest.MonkeyPatch.context() as patch:
        rotate = Image.Image.rotate
        patch.setattr(Image.Image, "rotate", lambda image, *a, **k: sides.append(image.size) or rotate(image, *a, **k))
        to_square(picture, image_size, STRAIGHT, "bicubic")
    assert [max(side) for side in sides] == [most]


@pytest.mark.parametrize("mode", ["crop", "stretch"])
def test_what_turns_things_back_takes_all_of_the_picture_as_it_is(mode: Any) -> None:
    with pytest.raises(ValidationError, match=f"a tilt is given and mode is {mode}; expected pad"):
        Fit(mode=mode, background="black", frame="thing", tilt=STRAIGHT.tilt)


def test_what_turns_things_back_takes_a_frame_around_them() -> None:
    with pytest.raises(ValidationError, match="a tilt is given and frame is picture; expected thing"):
        Fit(mode="pad", background="black", tilt=STRAIGHT.tilt)


# --- what the service does ---


def test_to_patches_is_the_square_cut_into_patches() -> None:
    spec = toy_spec(channels=3, fit=Fit(mode="pad"), interpolation="bilinear")
    pixels = random_pixels(10, 20, 3)
    patches = to_patches(pixels, spec)
    assert (patches.shape, patches.dtype) == ((spec.num_patches, spec.patch_bytes), np.uint8)
    np.testing.assert_array_equal(patches, patchify(to_square(pixels, 8, spec.fit, "bilinear"), 4))


@pytest.mark.parametrize(
    ("fit", "side"),
    [
        (Fit(crop_percentage=0.875), 256),
        (Fit(), 224),
        (Fit(crop_percentage=0.9), 249),
        (Fit(mode="pad", crop_percentage=0.5), 224),
        (Fit(mode="stretch", crop_percentage=0.5), 224),
    ],
)
def test_the_smallest_useful_side_is_what_the_crop_leaves_at_full_size(fit: Fit, side: int) -> None:
    assert smallest_useful_side(toy_spec(image_size=224, patch_size=16, fit=fit)) == side


def test_metadata_that_cannot_be_read_costs_the_picture_nothing() -> None:
    def image() -> Image.Image:
        image = Image.new("RGB", (4, 2), "red")
        image.info["exif"] = b"Exif\x00\x00no TIFF header"
        return image

    with pytest.raises(SyntaxError):
        image().getexif()
    assert to_pixels(image(), 3).shape == (2, 4, 3)


# --- a view ---


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("background", ["any", "dark", "black"])
@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
def test_the_view_of_a_whole_square_is_the_square(mode: Any, background: Any, channels: int) -> None:
    coarse = Image.fromarray(random_pixels(5, 8, channels)[:, :, 0] if channels == 1 else random_pixels(5, 8, channels))
    pixels = np.asarray(coarse.resize((96, 60), Image.Resampling.BICUBIC)).reshape(60, 96, channels)
    fit = Fit(mode=mode, background=background)
    square, view = to_square(pixels, 32, fit, "bicubic"), to_view(pixels, (0, 0, 1, 1), 32, fit, "bicubic")
    assert view.shape == square.shape
    assert np.abs(view.astype(int) - square).mean() < 3  # the color of the padding is that of other pixels


def test_a_view_is_cut_before_it_is_resized() -> None:
    pixels = random_pixels(64, 64, 3)
    view = to_view(pixels, (0.5, 0.25, 0.75, 0.5), 16, Fit(mode="stretch"), "bicubic")
    np.testing.assert_array_equal(view, pixels[16:32, 32:48])


def test_a_view_within_a_crop_or_a_padded_square_is_at_its_place() -> None:
    pixels = random_pixels(32, 64, 3)
    middle = to_view(pixels, (0.5, 0.5, 1, 1), 16, Fit(mode="crop", crop_percentage=1.0), "bicubic")
    np.testing.assert_array_equal(middle, pixels[16:, 32:48])
    padded = to_view(pixels, (0.25, 0.25, 0.5, 0.5), 16, Fit(mode="pad"), "bicubic")
    np.testing.assert_array_equal(padded, pixels[:16, 16:32])


def test_a_view_is_inverted_where_the_whole_square_is() -> None:
    pixels = np.full((32, 32, 3), 250, np.uint8)
    pixels[8:24, 8:24] = 10
    fit = Fit(mode="stretch", background="dark")
    assert to_view(pixels, (0.3, 0.3, 0.7, 0.7), 8, fit, "bicubic").min() == 245
