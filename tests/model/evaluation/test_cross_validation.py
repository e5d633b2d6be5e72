"""What a calibration does to pictures that it was not fitted to, judged where the truth is known."""

import numpy as np
import pytest

from model.evaluation.confidence import energies, fit_conformal, fit_energy_threshold, label_sets
from model.evaluation.cross_validation import SET_COVERAGES, cross_validated
from model.evaluation.evaluate import evaluate_logits, fit_temperature, probabilities_of
from tests.model.evaluation.test_confidence import drawn


def test_of_answers_that_are_as_sure_as_they_say_it_finds_what_was_promised() -> None:
    logits, labels = drawn(1000, seed=4)
    found = cross_validated(logits * 2, labels)  # twice as sure as it may be
    assert found is not None
    assert found.temperatures[0] == pytest.approx(2, abs=0.3)
    assert found.temperatures[0] < found.temperatures[1]
    assert found.familiar == pytest.approx(0.95, abs=0.005)
    assert found.covered == pytest.approx(SET_COVERAGES, abs=0.01)
    assert found.loss == pytest.approx(evaluate_logits(logits, labels).loss, abs=0.01)


def test_the_loss_is_above_that_of_the_pictures_that_it_was_fitted_to() -> None:
    logits, labels = drawn(120, seed=5)
    found = cross_validated(logits, labels)
    assert found is not None
    assert found.loss > evaluate_logits(logits, labels, fit_temperature(logits, labels)).loss


def test_each_picture_is_judged_by_what_was_fitted_without_its_fold() -> None:
    logits, labels = drawn(150, seed=9)
    found = cross_validated(logits, labels, repeats=1)
    assert found is not None
    losses, covered, reached = [], 0, 0
    folds = np.random.default_rng(0).permutation(150) % 10
    for fold in range(10):
        rest, own = folds != fold, folds == fold
        temperature = fit_temperature(logits[rest], labels[rest])
        conformal = fit_conformal(logits[rest], labels[rest], temperature, "the rest")
        threshold = fit_energy_threshold(logits[rest])
        assert conformal is not None
        assert threshold is not None
        probabilities = probabilities_of(logits[own], temperature)
        losses.append(evaluate_logits(logits[own], labels[own], temperature).loss)
        covered += label_sets(probabilities, conformal, 0.95)[np.arange(15), labels[own]].sum()
        reached += (energies(logits[own]) >= threshold).sum()
    assert found.loss == pytest.approx(np.mean(losses))
    assert found.covered[1] == pytest.approx(covered / 150)
    assert found.familiar == pytest.approx(reached / 150)


@pytest.mark.parametrize(("count", "is_enough"), [(111, False), (112, True), (5000, True), (5001, False)])
def test_nine_folds_have_a_hundred_pictures_and_all_no_more_than_five_thousand(count: int, is_enough: bool) -> None:
    assert (cross_validated(*drawn(count, seed=6), repeats=1) is not None) is is_enough


def test_so_many_logits_that_it_would_take_long_are_not_looked_at() -> None:
    labels = np.zeros(501, dtype=np.int64)
    assert cross_validated(np.zeros((501, 1000)), labels) is None


def test_the_same_seed_finds_the_same() -> None:
    first, again, other = (cross_validated(*drawn(150, seed=7), seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first is not None
    assert str(first).startswith(f"loss {first.loss:.4f}, calibration error {first.calibration_error:.4f}, ")
    assert "of the sets of coverage 0.9, 0.95 and 0.99 (10 folds, 5 times; temperatures from " in str(first)


def test_logits_that_are_no_numbers_are_refused() -> None:
    logits, labels = drawn(150, seed=8)
    logits[3, 1] = np.nan
    with pytest.raises(ArithmeticError, match="not all finite"):
        cross_validated(logits, labels)
