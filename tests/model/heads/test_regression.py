"""Heads on embeddings: what they learn, how their weight decay is chosen, and what rare classes count."""

import numpy as np
import pytest

from model.heads.regression import fit
from model.training.loss import class_weights
from tests.model.heads.clouds import clouds

pytestmark = pytest.mark.timeout(60)


def test_classes_that_lie_apart_are_told_apart_and_so_are_others_like_them() -> None:
    vectors, labels = clouds([30, 30, 30], apart=4.0, seed=0)
    others, truth = clouds([30, 30, 30], apart=4.0, seed=1)
    fitted = fit(vectors, labels, 3)
    assert (fitted.head.logits(others).argmax(axis=1) == truth).mean() > 0.95
    assert fitted.head.weight.dtype == np.float32


def test_what_the_folds_say_is_said_of_pictures_that_their_heads_have_not_seen() -> None:
    """Labels that mean nothing can be learnt by heart, and not be guessed."""
    vectors, _ = clouds([60], apart=0.0, seed=0)
    labels = np.random.default_rng(1).integers(0, 2, 60).astype(np.int64)
    fitted = fit(vectors, labels, 2, decays=(1e-4,))
    assert fitted.held_out_logits is not None
    known = (fitted.head.logits(vectors).argmax(axis=1) == labels).mean()
    guessed = (fitted.held_out_logits.argmax(axis=1) == labels).mean()
    assert guessed < known - 0.1


def test_a_strong_weight_decay_is_chosen_where_features_say_nothing() -> None:
    vectors, _ = clouds([60], apart=0.0, seed=0)
    labels = np.random.default_rng(1).integers(0, 2, 60).astype(np.int64)
    assert fit(vectors, labels, 2).decay == 1.0


def test_the_same_pictures_give_the_same_head() -> None:
    vectors, labels = clouds([12, 12], apart=2.0, seed=0)
    first, second = fit(vectors, labels, 2), fit(vectors, labels, 2)
    assert np.array_equal(first.head.weight, second.head.weight)
    assert first.decay == second.decay


def test_a_class_of_one_picture_leaves_no_folds_and_a_head_is_fitted_all_the_same() -> None:
    vectors, labels = clouds([1, 5], apart=4.0, seed=0)
    fitted = fit(vectors, labels, 2)
    assert fitted.held_out_logits is None
    assert (fitted.head.logits(vectors).argmax(axis=1) == labels).all()


def test_rare_classes_count_for_more_and_all_pictures_together_for_as_much() -> None:
    labels = np.repeat([0, 1], [90, 10]).astype(np.int64)
    weights = class_weights(labels, 2, 1.0)
    assert weights[1] == pytest.approx(9 * weights[0])
    assert weights[labels].mean() == pytest.approx(1.0)
    assert class_weights(labels, 2, 0.0).tolist() == [1.0, 1.0]


def test_balance_finds_more_of_a_rare_class() -> None:
    vectors, labels = clouds([400, 20], apart=1.0, seed=0)
    others, truth = clouds([200, 200], apart=1.0, seed=1)
    found = [
        (fit(vectors, labels, 2, balance=balance).head.logits(others).argmax(axis=1)[truth == 1] == 1).mean()
        for balance in (0.0, 1.0)
    ]
    assert found[1] > found[0] + 0.1
