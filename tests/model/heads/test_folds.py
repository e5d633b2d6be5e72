"""Folds of the training pictures, and features of one scale."""

import numpy as np
import pytest

from model.heads.folds import mean_loss, standard, stratified_folds
from tests.model.heads.clouds import clouds


@pytest.mark.parametrize(("counts", "expected"), [([2, 9], 2), ([5, 7], 5), ([40, 50, 60], 5)])
def test_there_are_as_many_folds_as_the_smallest_class_has_pictures_and_at_most_five(
    counts: list[int], expected: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    folds = stratified_folds(labels, seed=0)
    assert folds is not None
    assert set(folds.tolist()) == set(range(expected))
    for label in range(len(counts)):
        sizes = np.bincount(folds[labels == label], minlength=expected)
        assert sizes.max() - sizes.min() <= 1


def test_a_class_of_one_picture_has_no_folds() -> None:
    assert stratified_folds(np.array([0, 1, 1], dtype=np.int64), seed=0) is None


def test_features_have_a_mean_of_0_and_a_deviation_of_1_and_one_that_never_varies_stays_0() -> None:
    vectors, _ = clouds([40, 40], apart=5.0, seed=0)
    vectors[:, 3] = 7.0
    scaled, mean, _ = standard(vectors)
    assert scaled.mean(0).abs().max() < 1e-5
    assert scaled.std(0, correction=0)[:3] == pytest.approx(1.0, abs=2e-3)
    assert scaled[:, 3].abs().max() == 0
    assert mean[3] == 7.0


def test_the_loss_of_even_odds_is_the_logarithm_of_the_number_of_classes_and_weights_count() -> None:
    labels = np.array([0, 2], dtype=np.int64)
    weights = np.array([0.5, 1.0, 1.5], dtype=np.float32)
    assert mean_loss(np.full((2, 3), 1e3), labels, weights) == pytest.approx(np.log(3))
    sure = np.array([[50.0, 0, 0], [50.0, 0, 0]])
    assert mean_loss(sure, labels, weights) == pytest.approx(50 * 1.5 / 2)
