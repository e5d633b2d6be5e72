"""Learning by how much a thing is turned, on shapes that stand upright."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.dataset import ImageSet
from model.evaluation.robustness import as_served
from model.spec import Fit, ModelSpec
from model.training.straightening import (
    TiltOptions,
    fit_tilt,
    judge,
    top1_turned,
    turned_rows,
    with_tilt,
    without_tilt,
)
from tests.model.toys import toy_spec

pytestmark = [pytest.mark.training, pytest.mark.timeout(300)]

FRAMED = Fit(mode="pad", background="black", frame="thing")
SPEC = toy_spec(image_size=28, fit=FRAMED)
OPTIONS = TiltOptions(epochs=8, batch_size=64, hidden=(64,))


def shapes(count: int, seed: int) -> ImageSet:
    """Letters T of many proportions and levels, as high as the square."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((count, 28, 28, 1), np.uint8)
    for square in pixels:
        bar, stem, thick = random.integers(8, 13), random.integers(2, 5), random.integers(4, 9)
        square[1 : 1 + thick, 14 - bar : 14 + bar] = random.integers(120, 256)
        square[1:27, 14 - stem : 14 + stem] = random.integers(120, 256)
    return ImageSet(pixels, np.zeros(count, np.int64))


@pytest.fixture(scope="module")
def learned() -> ModelSpec:
    return with_tilt(SPEC, fit_tilt(shapes(1500, 0), SPEC, OPTIONS))


def test_angles_are_learned_and_upright_things_left_as_they_are(learned: ModelSpec) -> None:
    tilt = learned.fit.tilt
    assert tilt is not None
    found = {judged.degrees: judged for judged in judge(tilt, shapes(200, 1), learned)}
    assert list(found) == [0, 10, 20, 30, 45]
    assert found[0].error < 2
    assert found[0].turned_back < 0.02
    assert found[20].error < 4
    assert found[20].error_95 < 9
    assert found[30].turned_back > 0.98


def test_squares_of_turned_things_become_like_those_of_upright_ones(learned: ModelSpec) -> None:
    upright = shapes(100, 2)
    (turned, angles), *_ = turned_rows(upright.pixels, 20)
    assert set(angles) == {-20.0, 20.0}
    expected = as_served(upright.pixels[:], SPEC).astype(int)
    off = [np.abs(as_served(turned, spec) - expected).mean() for spec in (without_tilt(learned), learned)]
    assert off[1] < off[0] / 2


def test_top1_is_of_pictures_as_the_service_would_see_them(learned: ModelSpec) -> None:
    images = shapes(700, 3)  # more than are turned at once

    def is_upright(squares: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Class 0 where the picture is the same from left to right."""
        values = squares[..., 0].astype(float)
        same = np.abs(values - values[:, :, ::-1]).mean((1, 2)) < 25
        return np.stack([same, ~same], 1).astype(float)

    assert top1_turned(is_upright, images, SPEC, 0) == 1
    assert top1_turned(is_upright, images, SPEC, 30) < 0.1
    assert top1_turned(is_upright, images, learned, 30) > 0.4


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    images, short = shapes(64, 0), TiltOptions(epochs=1, hidden=(8,))
    first, second = (fit_tilt(images, SPEC, short) for _ in range(2))
    assert first == second
    assert fit_tilt(images, SPEC, TiltOptions(epochs=1, hidden=(8,), seed=1)) != first


def test_progress_counts_every_batch() -> None:
    told = []
    options = TiltOptions(epochs=2, batch_size=40, hidden=(8,))
    fit_tilt(shapes(100, 0), SPEC, options, lambda done, total: told.append((done, total)))
    assert told == [(step, 8) for step in range(1, 9)]  # 3 batches of 100, then 5 of 200


def test_a_fit_that_frames_no_thing_has_no_tilt(learned: ModelSpec) -> None:
    with pytest.raises(ValueError, match="a tilt is given and frame is picture"):
        with_tilt(toy_spec(image_size=28), learned.fit.tilt)
