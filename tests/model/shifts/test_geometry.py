import numpy as np
import pytest

from model.preprocess import Pixels
from model.shifts.geometry import GEOMETRY

RNG = np.random.default_rng


def moved(name: str, pixels: Pixels) -> Pixels:
    return GEOMETRY[name](pixels, RNG(0))


@pytest.fixture
def photos() -> Pixels:
    """A bright rectangle, off the middle, on a dark ground."""
    pixels = np.full((6, 29, 29, 3), 12, dtype=np.uint8)
    pixels[:, 8:16, 10:22] = (200, 150, 90)
    return pixels


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_their_form(name: str, channels: int, photos: Pixels) -> None:
    before = photos[..., :channels]
    after = moved(name, before)
    assert (after.dtype, after.shape) == (np.uint8, before.shape)
    assert not np.array_equal(after, before)
    assert np.array_equal(after, moved(name, before)), "the same seed gives the same"


def test_half_a_turn_and_a_quarter_are_exact(photos: Pixels) -> None:
    assert np.array_equal(moved("rotated by 180°", photos), photos[:, ::-1, ::-1])
    quarters = [np.rot90(photos[0]), np.rot90(photos[0], -1)]
    turned = [[np.array_equal(one, quarter) for quarter in quarters] for one in moved("rotated by 90°", photos)]
    assert all(map(any, turned))
    assert np.any(turned, axis=0).all(), "to both sides"


def test_mirrored_twice_is_as_before(photos: Pixels) -> None:
    assert np.array_equal(moved("mirrored", moved("mirrored", photos)), photos)


@pytest.mark.parametrize("factor", [0.7, 0.5, 1.3])
def test_areas_scale_with_the_square(factor: float, photos: Pixels) -> None:
    bright = photos > 50
    assert (moved(f"scaled to {factor}", photos) > 50).sum() == pytest.approx(bright.sum() * factor**2, rel=0.15)


def test_a_shift_is_as_far_as_it_says_in_any_direction(photos: Pixels) -> None:
    def middle(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        weights = pixels[..., 0].astype(float) - 12
        rows, columns = np.mgrid[:29, :29]
        return np.stack([(weights * axis).sum(axis=(1, 2)) / weights.sum(axis=(1, 2)) for axis in (rows, columns)])

    offsets = middle(moved("shifted by 10%", photos)) - middle(photos)
    assert np.hypot(*offsets) == pytest.approx(np.full(6, 2.9), abs=0.05)
    assert len(np.unique(offsets.round(2))) > 6


def test_what_comes_into_sight_has_the_color_of_the_border() -> None:
    pixels = np.full((1, 20, 20, 3), (30, 60, 90), dtype=np.uint8)
    pixels[0, 8:12, 8:12] = 255
    assert (moved("scaled to 0.5", pixels)[0, :4] == (30, 60, 90)).all()


def test_only_a_dark_background_becomes_grey_or_white(photos: Pixels) -> None:
    for name, level in (("background grey 40", 40), ("background white", 255)):
        after = moved(name, photos)
        assert (after[photos == 12] == level).all()
        assert (after[photos != 12] == photos[photos != 12]).all()
        light = np.full((1, 20, 20, 1), 180, dtype=np.uint8)
        light[0, 5:9, 5:9] = 0
        assert np.array_equal(moved(name, light), light)


def test_a_frame_stands_out(photos: Pixels) -> None:
    after = moved("framed", photos)
    assert (after[:, :2] == 255).all()
    assert np.array_equal(after[:, 2:-2, 2:-2], photos[:, 2:-2, 2:-2])
    assert (moved("framed", 255 - photos)[:, :2] == 0).all()
