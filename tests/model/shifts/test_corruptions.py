import numpy as np
import pytest

from model.preprocess import Pixels
from model.shifts.corruptions import CORRUPTIONS, STRENGTHS, corrupted

SHAPES = [(3, 28, 28, 1), (2, 33, 64, 3)]


def pictures(shape: tuple[int, ...]) -> Pixels:
    """Bright disks on black, of which a third of the range is noise: every corruption has something to change."""
    rows, columns = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    disk = (np.hypot(rows, columns) < 0.6)[np.newaxis, ..., np.newaxis]
    return np.where(disk, np.random.default_rng(0).integers(90, 200, shape), 10).astype(np.uint8)


def changed(name: str, strength: int, shape: tuple[int, ...], seed: int = 0) -> Pixels:
    return corrupted(pictures(shape), name, strength, np.random.default_rng(seed))


def distance(name: str, strength: int, shape: tuple[int, ...]) -> float:
    return float(np.abs(changed(name, strength, shape).astype(float) - pictures(shape)).mean())


def test_there_are_fifteen() -> None:
    assert len(CORRUPTIONS) == 15


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_pictures_keep_their_form_and_change_the_more_the_stronger(name: str, shape: tuple[int, ...]) -> None:
    before = pictures(shape)
    for strength in STRENGTHS:
        after = corrupted(before, name, strength, np.random.default_rng(strength))
        assert (after.dtype, after.shape) == (np.uint8, shape)
    assert np.array_equal(before, pictures(shape)), "what is passed in stays as it is"
    assert 0 < distance(name, 1, shape) < distance(name, 5, shape)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_decides(name: str) -> None:
    assert np.array_equal(changed(name, 3, SHAPES[0]), changed(name, 3, SHAPES[0]))


@pytest.mark.parametrize("name", ["gaussian noise", "shot noise", "impulse noise", "snow", "frost", "fog", "elastic"])
def test_another_seed_gives_another_picture(name: str) -> None:
    assert not np.array_equal(changed(name, 3, SHAPES[0]), changed(name, 3, SHAPES[0], seed=1))


@pytest.mark.parametrize("name", ["defocus blur", "motion blur", "zoom blur", "contrast", "pixelate", "jpeg"])
def test_an_even_picture_has_nothing_to_lose(name: str) -> None:
    even = np.full((1, 40, 40, 3), 77, dtype=np.uint8)
    after = corrupted(even, name, 5, np.random.default_rng(0)).astype(int)
    assert np.abs(after - 77).max() <= (3 if name == "jpeg" else 1)


def test_noise_has_the_deviation_that_it_says() -> None:
    grey = np.full((4, 100, 100, 1), 128, dtype=np.uint8)
    noisy = corrupted(grey, "gaussian noise", 2, np.random.default_rng(0)) / 255
    assert noisy.std() == pytest.approx(0.07, rel=0.05)
    impulses = corrupted(grey, "impulse noise", 5, np.random.default_rng(0))
    assert (impulses == 0).mean() == pytest.approx(0.09, rel=0.1)
    assert (impulses == 255).mean() == pytest.approx(0.09, rel=0.1)


def test_pixelate_leaves_means_of_squares() -> None:
    after = changed("pixelate", 5, (1, 60, 60, 1))[0, :, :, 0]
    assert len(np.unique(np.diff(np.flatnonzero(np.diff(after.astype(int)).any(axis=0))))) <= 2
    assert after.mean() == pytest.approx(pictures((1, 60, 60, 1)).mean(), abs=1)


def test_saturate_takes_colors_away_and_then_too_much_of_them() -> None:
    red = np.full((1, 8, 8, 3), (110, 100, 95), dtype=np.uint8)
    spread = [np.ptp(corrupted(red, "saturate", one, np.random.default_rng(0))) for one in STRENGTHS]
    assert spread[1] < spread[0] < 15 < spread[2] < spread[3] < spread[4]


def test_saturate_takes_grey_values_ever_further_from_the_middle() -> None:
    away = [distance("saturate", strength, SHAPES[0]) for strength in STRENGTHS]
    assert away == sorted(set(away))
