"""What holds for every picture on its way to patches, whatever its size, mode and fit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from model.preprocess import patchify, smallest_useful_side, to_patches, to_pixels, to_square
from model.spec import Fit
from tests.model.toys import toy_spec

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
SIDES = st.one_of(st.integers(1, 12), st.integers(13, 90))
CHANNELS = st.sampled_from([1, 3])
FITS = st.builds(
    Fit,
    mode=st.sampled_from(["crop", "pad", "stretch"]),
    crop_percentage=st.floats(0.05, 1),
    background=st.sampled_from([*Fit.model_fields["background"].annotation.__args__]),
) | st.builds(
    Fit, mode=st.sampled_from(["crop", "pad", "stretch"]), background=st.just("black"), frame=st.just("thing")
)


@st.composite
def pixels(draw: st.DrawFn, channels: st.SearchStrategy[int] = CHANNELS) -> NDArray[np.uint8]:
    """uint8 [H, W, C]. A seed instead of each value: thousands of them would take hypothesis seconds to draw."""
    shape = draw(SIDES), draw(SIDES), draw(channels)
    return np.random.default_rng(draw(st.integers(0, 1000))).integers(0, 256, shape, dtype=np.uint8)


def opened(values: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)


# --- to_pixels ---


@given(values=pixels())
def test_eight_bits_stay_what_they_are(values: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(to_pixels(opened(values), values.shape[2]), values)


@given(values=pixels(), channels=CHANNELS)
def test_a_picture_read_twice_is_the_same_twice(values: NDArray[np.uint8], channels: int) -> None:
    image = opened(values)
    first = to_pixels(image, channels)
    second = to_pixels(image, channels)
    np.testing.assert_array_equal(first, second)


@given(values=pixels(st.just(3)), alpha=st.integers(0, 255))
def test_what_is_seen_through_lies_between_the_picture_and_white(values: NDArray[np.uint8], alpha: int) -> None:
    image = opened(values)
    image.putalpha(alpha)
    expected = (values.astype(float) * alpha + 255.0 * (255 - alpha)) / 255
    np.testing.assert_allclose(to_pixels(image, 3), expected, atol=1.01)


@given(values=pixels(st.just(1)), channels=CHANNELS)
def test_sixteen_bits_are_scaled_by_257(values: NDArray[np.uint8], channels: int) -> None:
    image = Image.fromarray(values[:, :, 0].astype(np.uint16) * 257)
    np.testing.assert_array_equal(to_pixels(image, channels), values.repeat(channels, axis=2))


@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(width=32)),
    channels=CHANNELS,
)
@pytest.mark.filterwarnings("error")
def test_floats_of_any_kind_become_pixels_in_silence(values: NDArray[np.float32], channels: int) -> None:
    result = to_pixels(Image.fromarray(values), channels)
    assert (result.shape, result.dtype) == ((*values.shape, channels), np.uint8)


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_black_in_silence() -> None:
    values = np.array([[0x7FA00000, 0x3F800000]], dtype=np.uint32)  # and 1.0
    image = Image.frombytes("F", (2, 1), values.tobytes())
    assert to_pixels(image, 1).ravel().tolist() == [0, 255]


@given(values=arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6))), channels=CHANNELS)
def test_integers_keep_their_order(values: NDArray[np.int32], channels: int) -> None:
    result = to_pixels(Image.fromarray(values), channels)[:, :, 0].ravel()
    assert (np.diff(result[np.argsort(values.ravel(), kind="stable")].astype(int)) >= 0).all()


@given(values=pixels(), orientation=st.integers(0, 9))
def test_turning_a_picture_upright_loses_no_pixel(values: NDArray[np.uint8], orientation: int) -> None:
    image = opened(values)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    turned = to_pixels(image, values.shape[2])
    assert sorted(turned.shape[:2]) == sorted(values.shape[:2])
    assert (turned.shape == values.shape) or orientation in (5, 6, 7, 8)
    before, after = (np.sort(array.reshape(-1, values.shape[2]), axis=0) for array in (values, turned))
    np.testing.assert_array_equal(after, before)


# --- to_square ---


@given(values=pixels(), image_size=st.integers(1, 32), fit=FITS, interpolation=st.sampled_from(INTERPOLATIONS))
def test_a_square_is_that_large_and_made_twice_the_same(
    values: NDArray[np.uint8], image_size: int, fit: Fit, interpolation: Any
) -> None:
    before = values.copy()
    square = to_square(values, image_size, fit, interpolation)
    assert (square.shape, square.dtype) == ((image_size, image_size, values.shape[2]), np.uint8)
    np.testing.assert_array_equal(square, to_square(values, image_size, fit, interpolation))
    np.testing.assert_array_equal(values, before)


@given(
    color=st.tuples(*[st.integers(0, 255)] * 3),
    height=SIDES,
    width=SIDES,
    image_size=st.integers(1, 32),
    fit=FITS,
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_one_colour_stays_one_colour(
    color: tuple[int, int, int], height: int, width: int, image_size: int, fit: Fit, interpolation: Any
) -> None:
    values = np.full((height, width, 3), color, dtype=np.uint8)
    square = to_square(values, image_size, fit, interpolation)
    negative = tuple(255 - value for value in color)
    if fit.background == "black":
        assert not square.any()
        return
    assert (square == np.uint8(color)).all() or (square == np.uint8(negative)).all()
    if fit.background == "any":
        assert (square == np.uint8(color)).all()


@given(values=pixels(), image_size=st.integers(2, 24), mode=st.sampled_from(["crop", "pad", "stretch"]))
def test_the_channels_do_not_mix(values: NDArray[np.uint8], image_size: int, mode: Any) -> None:
    assume(values.shape[2] == 3)
    whole = to_square(values, image_size, Fit(mode=mode), "bilinear")
    for channel in range(3):
        alone = to_square(values[:, :, channel : channel + 1], image_size, Fit(mode=mode), "bilinear")
        np.testing.assert_array_equal(whole[:, :, channel : channel + 1], alone)


@given(values=pixels(), image_size=st.integers(2, 24), interpolation=st.sampled_from(["bilinear", "bicubic"]))
def test_a_mirrored_picture_becomes_a_mirrored_square(
    values: NDArray[np.uint8], image_size: int, interpolation: Any
) -> None:
    square = to_square(values, image_size, Fit(mode="stretch"), interpolation)
    mirrored = to_square(np.ascontiguousarray(values[:, ::-1]), image_size, Fit(mode="stretch"), interpolation)
    np.testing.assert_allclose(mirrored[:, ::-1].astype(int), square.astype(int), atol=2)  # it rounds twice


@given(values=pixels(), image_size=st.integers(1, 24))
def test_nearest_invents_no_colour(values: NDArray[np.uint8], image_size: int) -> None:
    square = to_square(values, image_size, Fit(mode="stretch"), "nearest")
    known = {tuple(pixel) for pixel in values.reshape(-1, values.shape[2]).tolist()}
    assert {tuple(pixel) for pixel in square.reshape(-1, values.shape[2]).tolist()} <= known


# --- patchify, and all of it ---


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), size=st.integers(1, 6), channels=CHANNELS)
def test_patches_put_back_are_the_picture(rows: int, columns: int, size: int, channels: int) -> None:
    values = np.arange(rows * columns * size * size * channels).reshape(rows * size, columns * size, channels)
    patches = patchify(values, size)
    assert patches.shape == (rows * columns, size * size * channels)
    back = patches.reshape(rows, columns, size, size, channels).swapaxes(1, 2).reshape(values.shape)
    np.testing.assert_array_equal(back, values)


@settings(max_examples=60)
@given(
    values=pixels(),
    fit=FITS,
    patch_size=st.sampled_from([1, 2, 4, 8]),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_patches_are_what_the_spec_says(
    values: NDArray[np.uint8], fit: Fit, patch_size: int, interpolation: Any
) -> None:
    spec = toy_spec(channels=values.shape[2], patch_size=patch_size, fit=fit, interpolation=interpolation)
    patches = to_patches(values, spec)
    assert (patches.shape, patches.dtype) == ((spec.num_patches, spec.patch_bytes), np.uint8)
    assert smallest_useful_side(spec) >= spec.image_size
