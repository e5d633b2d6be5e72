import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from model.data.augment import augment
from model.data.batch_rng import BatchRng
from model.data.randaugment import _operations, rand_augment
from model.preprocess import Pixels
from model.recipe import Augmentation
from tests.model.toys import random_pixels

PLAIN = ("identity", "autocontrast", "equalise", "solarize", "posterize")  # the same whichever the direction
DIRECTED = (
    *("sharpness", "brightness", "contrast", "saturation"),
    *("rotate", "shear across", "shear down", "translate across", "translate down"),
)
NAMES = PLAIN + DIRECTED
SIDE = 20
OFF = {"flip": 0.0, "pad_crop": 0.0, "erase": 0.0}


def _varied(pixels: Pixels, layers: int = 1, magnitude: float = 15.0, seed: int = 0) -> Tensor:
    return rand_augment(torch.from_numpy(pixels), layers, magnitude, BatchRng([seed], len(pixels)))


def _applied(name: str, original: Pixels, strength: float) -> Pixels:
    """One operation on one picture [H, W, C], which keeps its shape and type."""
    images = torch.from_numpy(original).permute(2, 0, 1)[None].float() / 255
    changed = _operations()[NAMES.index(name)](images, torch.tensor([strength])).clamp(0, 1)
    return (changed[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def _waves(side: int = 32) -> Pixels:
    """Smooth, and unlike itself mirrored or turned."""
    rows, columns = np.mgrid[:side, :side] / side
    channels = [np.sin(5 * rows + 2 * columns), np.cos(4 * columns - rows), np.sin(3 * rows * columns + 1)]
    return (127 + 100 * np.stack(channels, axis=2)).astype(np.uint8)


def test_every_operation_has_a_name_here() -> None:
    assert len(_operations()) == len(NAMES) == 14


# --- what an operation does: Pillow's are the ones that the paper used ---

PILLOWS: dict[str, tuple[str, float, Callable[[Image.Image], Image.Image], int]] = {
    "identity": ("identity", 1.0, lambda image: image, 0),
    "autocontrast": ("autocontrast", 0.3, ImageOps.autocontrast, 1),
    "equalise": ("equalise", 0.3, ImageOps.equalize, 0),
    "solarize-half": ("solarize", 0.5, lambda image: ImageOps.solarize(image, 128), 0),
    "solarize-half-other-way": ("solarize", -0.5, lambda image: ImageOps.solarize(image, 128), 0),
    "solarize-all": ("solarize", 1.0, ImageOps.invert, 0),
    "posterize-half": ("posterize", 0.5, lambda image: ImageOps.posterize(image, 6), 0),
    "posterize-all": ("posterize", -1.0, lambda image: ImageOps.posterize(image, 4), 0),
    "sharpen": ("sharpness", 1.0, lambda image: ImageEnhance.Sharpness(image).enhance(1.9), 2),
    "blur": ("sharpness", -1.0, lambda image: ImageEnhance.Sharpness(image).enhance(0.1), 2),
    "brighten": ("brightness", 0.5, lambda image: ImageEnhance.Brightness(image).enhance(1.45), 1),
    "darken": ("brightness", -1.0, lambda image: ImageEnhance.Brightness(image).enhance(0.1), 1),
    "more-contrast": ("contrast", 0.5, lambda image: ImageEnhance.Contrast(image).enhance(1.45), 2),
    "less-contrast": ("contrast", -1.0, lambda image: ImageEnhance.Contrast(image).enhance(0.1), 2),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("case", PILLOWS)
def test_an_operation_is_pillows(case: str, channels: int) -> None:
    name, strength, pillow, tolerance = PILLOWS[case]
    original = 30 + random_pixels(28, 28, channels) // 4 * 3  # 30 to 219
    original[:2] = random_pixels(2, 28, channels, seed=1) if name != "autocontrast" else 30
    image = Image.fromarray(original if channels == 3 else original[..., 0])
    expected = np.asarray(pillow(image)).reshape(original.shape)
    assert _difference(_applied(name, original, strength), expected) <= tolerance


def test_autocontrast_leaves_a_channel_of_one_value_alone() -> None:
    original = random_pixels(8, 8, 3)
    original[..., 1] = 200
    expected = np.asarray(ImageOps.autocontrast(Image.fromarray(original)))
    assert (expected[..., 1] == 200).all()
    assert _difference(_applied("autocontrast", original, 1.0), expected) <= 1


@pytest.mark.parametrize(("strength", "factor"), [(1.0, 1.9), (-0.5, 0.55)])
def test_saturation_scales_the_distance_from_grey(strength: float, factor: float) -> None:
    original = 110 + random_pixels(8, 8, 3) // 8
    grey = original.mean(axis=2, keepdims=True)
    expected = grey + (original - grey) * factor
    assert np.abs(_applied("saturation", original, strength) - expected).max() <= 0.51


def test_a_grey_picture_has_no_saturation() -> None:
    original = random_pixels(8, 8, 1)
    np.testing.assert_array_equal(_applied("saturation", original, 1.0), original)


def _sheared(across: float, down: float) -> Callable[[Image.Image], Image.Image]:
    """Pillow's own affine map: to each place the pixel at (x + across y, y + down x), seen from the middle."""

    def sheared(image: Image.Image) -> Image.Image:
        half = image.width / 2
        matrix = (1, across, -across * half, down, 1, -down * half)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    return sheared


def _turned(degrees: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    ("name", "strength", "pillow"),
    [
        ("rotate", 1.0, _turned(30)),
        ("rotate", -0.5, _turned(-15)),
        ("shear across", 1.0, _sheared(0.3, 0)),
        ("shear across", -0.5, _sheared(-0.15, 0)),
        ("shear down", 1.0, _sheared(0, 0.3)),
        ("shear down", -0.5, _sheared(0, -0.15)),
    ],
)
def test_a_turn_or_a_shear_is_pillows_where_the_picture_is_seen(
    name: str, strength: float, pillow: Callable[[Image.Image], Image.Image]
) -> None:
    original = _waves()
    seen = pillow(Image.new("L", (32, 32), 255)).filter(ImageFilter.MinFilter(3))
    inside = np.asarray(seen) == 255
    inside[[0, -1]] = inside[:, [0, -1]] = False
    found, expected = _applied(name, original, strength), np.asarray(pillow(Image.fromarray(original)))
    assert inside.mean() > 0.5
    assert _difference(expected[inside], original[inside]) > 20
    assert _difference(found[inside], expected[inside]) <= 2


@pytest.mark.parametrize(("strength", "places"), [(1.0, 9), (-1.0, -9), (1 / 9, 1)])
def test_a_translation_moves_by_up_to_45_percent_of_the_side_and_repeats_the_edge(strength: float, places: int) -> None:
    original = random_pixels(SIDE, SIDE, 3)
    taken = np.clip(np.arange(SIDE) + places, 0, SIDE - 1)
    assert _difference(_applied("translate across", original, strength), original[:, taken]) <= 1
    assert _difference(_applied("translate down", original, strength), original[taken]) <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("autocontrast", "equalise")])
def test_an_operation_of_no_strength_leaves_a_picture_as_it_is(name: str, channels: int) -> None:
    original = np.minimum(random_pixels(SIDE, SIDE, channels), 254)  # a solarized 255 is a 0 at every strength
    assert _difference(_applied(name, original, 0.0), original) <= 1


# --- which operations a picture gets ---


def _by_what(original: Pixels, varied: Pixels, strength: float) -> str:
    """The operation, and its direction where it has one, that made `varied` of `original`."""
    candidates = {name: _applied(name, original, strength) for name in PLAIN}
    for sign in (1, -1):
        candidates |= {f"{name} {sign:+}": _applied(name, original, sign * strength) for name in DIRECTED}
    name = min(candidates, key=lambda name: _difference(candidates[name], varied))
    assert _difference(candidates[name], varied) <= 1
    return name


def test_every_operation_is_reached_both_ways_at_the_magnitude_asked_for() -> None:
    original = random_pixels(SIDE, SIDE, 3)
    varied = _varied(np.broadcast_to(original, (500, *original.shape)).copy(), magnitude=18)
    kinds = {pixels.tobytes(): pixels for pixels in varied.numpy()}
    names = {_by_what(original, pixels, 18 / 30) for pixels in kinds.values()}
    assert names == {*PLAIN, *(f"{name} {sign}" for name in DIRECTED for sign in ("+1", "-1"))}


def test_each_layer_goes_on_from_the_one_before() -> None:
    original = random_pixels(SIDE, SIDE, 3)
    pixels = np.broadcast_to(original, (300, *original.shape)).copy()
    one, two = (len({row.tobytes() for row in _varied(pixels, layers).numpy()}) for layers in (1, 2))
    assert one == len(PLAIN) + 2 * len(DIRECTED)
    assert two > 3 * one


@given(
    shape=st.tuples(st.integers(0, 4), st.integers(3, 9), st.sampled_from([1, 3])),
    layers=st.integers(0, 3),
    magnitude=st.floats(0, 30),
    seed=st.integers(0, 999),
)
def test_shape_and_type_are_kept(shape: tuple[int, int, int], layers: int, magnitude: float, seed: int) -> None:
    count, side, channels = shape
    pixels = random_pixels(count, side, side, channels)
    varied = _varied(pixels, layers, magnitude, seed)
    assert (varied.shape, varied.dtype) == (pixels.shape, torch.uint8)
    if not layers:
        np.testing.assert_array_equal(varied.numpy(), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_varied_the_same_whatever_its_neighbours_show(channels: int) -> None:
    pixels = random_pixels(80, SIDE, SIDE, channels)
    others = pixels.copy()
    others[::2] = 255 - others[::2] // 2
    assert torch.equal(_varied(others, 2, 25.0)[1::2], _varied(pixels, 2, 25.0)[1::2])


def test_a_batch_in_parts_is_varied_as_in_one_piece() -> None:
    pixels = torch.from_numpy(random_pixels(41, SIDE, SIDE, 3))
    whole = rand_augment(pixels, 2, 20.0, BatchRng([4], 41))
    parts = [rand_augment(pixels[rows], 2, 20.0, BatchRng([4], 41, rows)) for rows in (slice(0, 14), slice(14, 41))]
    assert (torch.cat(parts).int() - whole.int()).abs().max() <= 1  # a convolution may round by the size of the batch


def test_torchs_own_generator_has_no_say_and_is_not_moved() -> None:
    pixels = random_pixels(60, 8, 8, 3)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = _varied(pixels, 2)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(_varied(pixels, 2), first)


def test_no_layers_is_off_whatever_the_magnitude() -> None:
    pixels = torch.from_numpy(random_pixels(9, 8, 8, 3))
    off = Augmentation(**OFF, randaugment_layers=0, randaugment_magnitude=30)
    assert torch.equal(augment(pixels, off, BatchRng([0], 9)), pixels)


@pytest.mark.process
def test_a_run_without_it_loads_no_kornia() -> None:
    code = (
        "import sys, model.training.train; sys.exit(bool({'kornia', 'onnxruntime', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
