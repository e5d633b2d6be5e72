"""What is hidden of a picture, and what is made of what the model says of it."""

import numpy as np
import pytest

from app.explanation.baselines import BASELINES, baseline_of
from app.explanation.masks import METHODS, Occlusion, Rise
from model.preprocess import patchify, unpatchify

SIDE = 4  # patches
PATCHES = np.random.default_rng(0).integers(0, 256, (SIDE * SIDE, 2 * 2 * 3), dtype=np.uint8)
HIDDEN = np.zeros_like(PATCHES)


def test_unpatchify_undoes_patchify() -> None:
    square = np.arange(2 * 6 * 6 * 3, dtype=np.uint8).reshape(2, 6, 6, 3)
    assert np.array_equal(unpatchify(patchify(square, 2), 2), square)


def test_occlusion_hides_one_patch_after_the_other() -> None:
    masks = Occlusion(PATCHES, HIDDEN)
    assert masks.count == 16
    pictures = masks.masked(3, 6)
    assert pictures.shape == (3, 16, 12)
    for picture, hidden in zip(pictures, range(3, 6), strict=True):
        assert not picture[hidden].any()
        assert np.array_equal(np.delete(picture, hidden, axis=0), np.delete(PATCHES, hidden, axis=0))


def test_of_occlusion_a_patch_carries_what_is_lost_without_it() -> None:
    scores = np.full(16, 5.0)
    scores[[2, 7]] = 1.0, 6.0
    values = Occlusion(PATCHES, HIDDEN).values(5.0, scores)
    assert (values[2], values[7], np.count_nonzero(values)) == (4.0, -1.0, 2)


def test_rise_hides_soft_halves_and_the_same_ones_each_time() -> None:
    masks = Rise(PATCHES, HIDDEN)
    pictures = masks.masked(0, masks.count)
    assert pictures.shape == (128, 16, 12)
    shares = pictures.sum(axis=2) / PATCHES.sum(axis=1)  # 128 16
    assert 0.45 < shares.mean() < 0.55
    assert np.ptp(shares, axis=0).min() > 0.9  # each is hidden in some, and shown in others
    assert len(np.unique(shares.round(2))) > 20  # and much lies between
    assert np.array_equal(pictures, Rise(PATCHES, HIDDEN).masked(0, masks.count))
    assert np.array_equal(pictures[5:9], masks.masked(5, 9))


@pytest.mark.parametrize("strongest", [0, 6, 15])
def test_of_rise_a_patch_carries_what_its_being_shown_raises(strongest: int) -> None:
    masks = Rise(PATCHES, HIDDEN)
    shown = masks.masked(0, masks.count).sum(axis=2) / PATCHES.sum(axis=1)  # 128 16
    values = masks.values(1.0, shown[:, strongest].astype(np.float64))
    assert values.argmax() == strongest
    assert values[strongest] > 0.1
    assert np.allclose(masks.values(1.0, np.ones(masks.count)), 0.0)  # nothing makes any difference


@pytest.mark.parametrize(("num_patches", "masks"), [(16, 128), (64, 256), (196, 512)])
def test_larger_grids_take_more_masks(num_patches: int, masks: int) -> None:
    assert METHODS["rise"].count(num_patches) == masks
    assert METHODS["occlusion"].count(num_patches) == num_patches


def test_one_patch_alone_can_be_hidden() -> None:
    for method in METHODS.values():
        masks = method.masks(PATCHES[:1], HIDDEN[:1])
        values = masks.values(2.0, np.zeros(masks.count))
        assert values.shape == (1,)
        assert np.isfinite(values).all()


# --- baselines ---


def square_of(
    name: str, square: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return unpatchify(baseline_of(patchify(square, 2), 2, name), 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_baselines_have_the_shape_of_what_they_stand_for(channels: int) -> None:
    patches = PATCHES[:, : 4 * channels]
    for name in BASELINES:
        baseline = baseline_of(patches, 2, name)
        assert (baseline.shape, baseline.dtype) == (patches.shape, np.uint8)


def test_the_mean_is_the_squares_color_and_the_border_that_of_its_edges() -> None:
    square = np.zeros((8, 8, 3), dtype=np.uint8)
    square[2:6, 2:6] = (200, 100, 40)
    square[0] = (9, 8, 7)
    assert (square_of("border", square) == 0).all()
    square[:, (0, -1)] = square[-1] = (9, 8, 7)
    assert (square_of("border", square) == (9, 8, 7)).all()
    assert (square_of("mean", square) == square.reshape(-1, 3).mean(axis=0).round()).all()


def test_a_blur_keeps_the_light_and_loses_what_is_sharp() -> None:
    square = np.zeros((16, 16, 1), dtype=np.uint8)
    square[:, 8:] = 200
    blurred = square_of("blur", square)
    assert blurred.mean() == pytest.approx(100, abs=3)
    assert np.abs(np.diff(blurred.astype(int), axis=1)).max() < 60
