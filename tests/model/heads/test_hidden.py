"""Heads with a hidden layer: what no linear head tells apart, and how they are chosen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from model.heads import regression
from model.heads.hidden import HiddenHead, Sizes, fit
from model.weights.config import GeluFlavour
from model.weights.forward import GELU
from tests.model.heads.clouds import clouds

pytestmark = pytest.mark.timeout(60)
XOR = Sizes(16, 2)


def corners(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors [n, 4] around the corners of a square; label 1 where just one of the first two is high."""
    generator = np.random.default_rng(seed)
    corner = generator.integers(0, 2, (count, 2))
    vectors = np.concatenate([8.0 * corner, np.zeros((count, 2))], axis=1) + generator.normal(size=(count, 4))
    return vectors.astype(np.float32), (corner[:, 0] ^ corner[:, 1]).astype(np.int64)


def test_it_tells_apart_what_no_linear_head_does() -> None:
    vectors, labels = corners(160, seed=0)
    others, truth = corners(200, seed=1)
    linear = regression.fit(vectors, labels, 2).head.logits(others).argmax(axis=1)
    found = fit(vectors, labels, XOR).head.logits(others).argmax(axis=1)
    assert (linear == truth).mean() < 0.8
    assert (found == truth).mean() > 0.97


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
def test_its_logits_are_those_of_its_tensors_on_embeddings_as_they_are(gelu: GeluFlavour) -> None:
    """The scale of the features is folded in."""
    vectors, labels = clouds([9, 9], apart=3.0, seed=0)
    head = fit(vectors, labels, Sizes(5, 2, gelu), decays=(1.0,)).head
    tensors = head.tensors()
    assert {name: (array.shape, array.dtype) for name, array in tensors.items()} == {
        "head_hidden.weight": ((5, 8), np.float32),
        "head_hidden.bias": ((5,), np.float32),
        "head.weight": ((2, 5), np.float32),
        "head.bias": ((2,), np.float32),
    }
    hidden = GELU[gelu](vectors @ tensors["head_hidden.weight"].T + tensors["head_hidden.bias"])
    expected = hidden @ tensors["head.weight"].T + tensors["head.bias"]
    np.testing.assert_allclose(head.logits(vectors), expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.1


def test_the_same_pictures_and_seed_give_the_same_head_and_another_seed_gives_another() -> None:
    vectors, labels = clouds([8, 8], apart=2.0, seed=0)
    first, again, other = (fit(vectors, labels, XOR, decays=(1.0,), seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.head.hidden_weight, again.head.hidden_weight)
    assert not np.array_equal(first.head.hidden_weight, other.head.hidden_weight)


def test_labels_that_mean_nothing_are_not_learnt_by_heart() -> None:
    """The folds gain nothing, so that few rounds are left."""
    vectors, _ = clouds([60], apart=0.0, seed=0)
    labels = np.random.default_rng(1).integers(0, 2, 60).astype(np.int64)
    fitted = fit(vectors, labels, Sizes(64, 2))
    assert fitted.held_out_logits is not None
    assert (fitted.held_out_logits.argmax(axis=1) == labels).mean() < 0.7
    assert (fitted.head.logits(vectors).argmax(axis=1) == labels).mean() < 0.95


def test_a_class_of_one_picture_leaves_no_folds_and_a_head_is_fitted_all_the_same() -> None:
    vectors, labels = clouds([1, 5], apart=8.0, seed=0)
    fitted = fit(vectors, labels, Sizes(64, 2))
    assert fitted.held_out_logits is None
    assert isinstance(fitted.head, HiddenHead)
    assert (fitted.head.logits(vectors).argmax(axis=1) == labels).all()


def test_balance_finds_more_of_a_rare_class() -> None:
    vectors, labels = clouds([200, 12], apart=1.0, seed=0)
    others, truth = clouds([200, 200], apart=1.0, seed=1)
    found = [
        fit(vectors, labels, XOR, decays=(1.0,), balance=balance).head.logits(others).argmax(axis=1)[truth == 1].mean()
        for balance in (0.0, 1.0)
    ]
    assert found[1] > found[0] + 0.1
