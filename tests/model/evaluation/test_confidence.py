"""Thresholds and sets hold on held-out pictures what they promise, and sets are those of another implementation."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from model.evaluation.confidence import (
    energies,
    fit_calibration,
    fit_conformal,
    fit_energy_threshold,
    fit_reference,
    label_sets,
)
from model.evaluation.evaluate import fit_temperature, probabilities_of
from model.reference import stability_index
from model.spec import Conformal
from tests.model.toys import toy_spec

# What SplitConformalClassifier(conformity_score="lac") of MAPIE 1.6.0 answers to drawn(12, seed=2), conformalized on
# drawn(250, seed=1), both at temperature 1.7: each picture's labels, in the order of their indices.
MAPIE = {
    0.07: "4 - - - - 1 - - 1 - - -",
    0.5: "4 0 0 1 - 1 - 2 1 2 3 1",
    0.8: "4 02 04 13 0 1 02 02 1 024 03 1",
    0.9: "04 023 04 013 0123 01 023 012 01 024 03 01",
    0.95: "04 023 0124 0123 0123 01 01234 0124 01 024 0234 01",
    0.99: "024 0123 0124 01234 0123 01 01234 0124 01 024 0234 012",
}


def drawn(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits of five classes, and labels that are drawn from their probabilities."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (count, 5))
    cumulated = probabilities_of(logits, 1.0).cumsum(axis=1)
    return logits, (cumulated > generator.random((count, 1))).argmax(axis=1)


def conformal_of(count: int, seed: int, temperature: float = 1.0) -> Conformal:
    found = fit_conformal(*drawn(count, seed), temperature, "drawn")
    assert found is not None
    return found


# --- the energy threshold ---


def test_an_energy_is_the_log_sum_exp_of_the_logits_however_large_they_are() -> None:
    found = energies(np.array([[1.0, 2.0, 3.0], [5000.0, 4000.0, -5000.0], [-900.0, -900.0, -900.0]]))
    assert found == pytest.approx([math.log(sum(map(math.exp, (1, 2, 3)))), 5000, math.log(3) - 900])


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("count", [100, 101, 119, 1000, 3001])
def test_no_fewer_than_the_share_reach_the_threshold_and_no_more_than_needed(count: int, share: float) -> None:
    logits, _ = drawn(count, count)
    threshold = fit_energy_threshold(logits, share)
    assert threshold is not None
    reached = (energies(logits) >= threshold).mean()
    assert share - 1e-9 <= reached <= share + 2 / count


def test_the_share_is_95_percent() -> None:
    logits, _ = drawn(500, 3)
    assert fit_energy_threshold(logits) == fit_energy_threshold(logits, 0.95) != fit_energy_threshold(logits, 0.9)


def test_equal_energies_are_all_sure() -> None:
    assert fit_energy_threshold(np.tile([1.0, 0.0], (200, 1))) == pytest.approx(math.log(math.e + 1), abs=1e-4)
    assert (energies(np.tile([1.0, 0.0], (200, 1))) >= fit_energy_threshold(np.tile([1.0, 0.0], (200, 1)))).all()


# --- sets ---


@pytest.mark.parametrize("coverage", MAPIE)
def test_sets_are_those_of_mapie_and_the_most_probable_label(coverage: float) -> None:
    probabilities = probabilities_of(drawn(12, 2)[0], 1.7)
    found = label_sets(probabilities, conformal_of(250, 1, temperature=1.7), coverage)
    for inside, best, judged in zip(found, probabilities.argmax(axis=1), MAPIE[coverage].split(), strict=True):
        assert set(np.flatnonzero(inside)) == {int(index) for index in judged if index != "-"} | {best}


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_the_true_label_is_in_as_many_sets_as_is_said(coverage: float) -> None:
    """Each try has its own held-out pictures and one new one, so that the tries are independent."""
    tries, count = 2000, 100
    logits, labels = drawn(tries * (count + 1), 5)
    covered = 0
    for start in range(0, len(labels), count + 1):
        held_out, new = slice(start, start + count), start + count
        conformal = fit_conformal(logits[held_out], labels[held_out], 1.3, "drawn")
        assert conformal is not None
        covered += bool(label_sets(probabilities_of(logits[new:][:1], 1.3), conformal, coverage)[0, labels[new]])
    stated = math.ceil((count + 1) * coverage) / (count + 1)
    assert covered / tries == pytest.approx(stated, abs=3.3 * math.sqrt(stated * (1 - stated) / tries))


@pytest.mark.parametrize("coverage", [0.01, 0.29, 0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("count", [100, 999, 1000, 1001, 3000])
def test_a_quantile_has_the_rank_that_a_finite_sample_needs(count: int, coverage: float) -> None:
    logits, labels = drawn(count, 6)
    scores = np.ceil((1 - probabilities_of(logits, 1.0)[np.arange(count), labels]) * 1e6) / 1e6
    needed = math.ceil(round((count + 1) * coverage, 6))
    conformal = conformal_of(count, 6)
    assert len(conformal.scores) == min(count, 1000)
    reached = (scores <= conformal.quantile(coverage)).sum()
    if needed > count:
        assert conformal.quantile(coverage) == 1.0
    else:
        assert needed <= reached <= needed + max(0, count / 1000) + (scores == conformal.quantile(coverage)).sum() - 1


def test_a_coverage_that_the_pictures_are_too_few_for_gets_all_labels() -> None:
    probabilities = probabilities_of(drawn(50, 2)[0], 1.0)
    conformal = conformal_of(100, 1)
    assert not label_sets(probabilities, conformal, 100 / 101).all()
    assert label_sets(probabilities, conformal, 0.9902).all()


def test_more_coverage_never_makes_a_set_smaller_and_none_is_empty() -> None:
    probabilities = probabilities_of(drawn(200, 2)[0], 1.0)
    before = np.zeros_like(probabilities, dtype=bool)
    for coverage in (1e-9, 0.01, 0.1, 0.3, 0.6, 0.9, 0.99, 1 - 1e-9):
        found = label_sets(probabilities, conformal_of(300, 1), coverage)
        assert found.any(axis=1).all()
        assert (found | before == found).all()
        before = found


def test_labels_of_one_probability_are_in_a_set_together() -> None:
    conformal = Conformal(data_set="ties", num_pictures=4, scores=(0.5, 0.6, 0.6, 0.6))
    assert [conformal.quantile(coverage) for coverage in (0.2, 0.4, 0.8, 0.81)] == [0.5, 0.6, 0.6, 1.0]
    found = label_sets(np.array([[0.2, 0.4, 0.4], [0.0, 0.5, 0.5]]), conformal, 0.4)
    assert found.tolist() == [[False, True, True], [False, True, True]]
    found = label_sets(np.array([[0.2, 0.4, 0.4], [0.0, 0.5, 0.5]]), conformal, 0.2)
    assert found.tolist() == [[False, True, False], [False, True, True]]


# --- all of it ---


def test_a_calibration_completes_a_spec() -> None:
    logits, labels = drawn(400, 8)
    logits *= 2
    calibration = fit_calibration(logits, labels, "drawn")
    assert calibration.temperature == fit_temperature(logits, labels) == pytest.approx(2, rel=0.2)
    assert calibration.conformal == fit_conformal(logits, labels, calibration.temperature, "drawn")
    spec = calibration.completed(toy_spec(temperature=3.0))
    completed = {
        "temperature": calibration.temperature,
        "energy_threshold": fit_energy_threshold(logits),
        "conformal": calibration.conformal,
        "reference": fit_reference(logits, calibration.temperature, "drawn"),
    }
    assert spec == toy_spec().model_copy(update=completed)


def test_few_pictures_tell_nothing() -> None:
    calibration = fit_calibration(*drawn(99, 8), "drawn")
    assert (calibration.temperature, calibration.energy_threshold, calibration.conformal) == (1.0, None, None)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(wrong: float) -> None:
    logits, labels = drawn(200, 8)
    logits[17, 2] = wrong
    for fit in (
        lambda: fit_energy_threshold(logits),
        lambda: fit_conformal(logits, labels, 1.0, "drawn"),
        lambda: fit_calibration(logits, labels, "drawn"),
    ):
        with pytest.raises(ArithmeticError, match="not all finite"):
            fit()


# --- the reference for drift ---


def test_a_reference_counts_the_answers_to_these_pictures() -> None:
    logits, _ = drawn(400, 4)
    reference = fit_reference(logits, 1.7, "drawn")
    assert reference is not None
    assert (reference.data_set, reference.num_pictures) == ("drawn", 400)
    likely = probabilities_of(logits, 1.7).max(axis=1)
    answers = list(zip(logits.argmax(axis=1).tolist(), likely.tolist(), energies(logits).tolist(), strict=True))
    counted, shares = reference.counted(answers), reference.expected()
    for of in ("classes", "probability", "energy"):
        assert stability_index(getattr(counted, of), getattr(shares, of), 400) == pytest.approx(0, abs=1e-6)
    assert reference.energy == pytest.approx([0.1] * 10, abs=0.01)


def test_a_reference_of_one_answer_has_equal_edges() -> None:
    reference = fit_reference(np.tile([1.0, 0.0], (100, 1)), 1.0, "drawn")
    assert reference is not None
    assert (reference.classes, sorted(reference.energy)) == ((1.0, 0.0), [0.0] * 9 + [1.0])


def test_few_pictures_are_no_reference_and_no_number_is_none_at_all() -> None:
    assert fit_reference(drawn(99, 1)[0], 1.0, "drawn") is None
    with pytest.raises(ArithmeticError):
        fit_reference(np.full((100, 2), np.nan), 1.0, "drawn")
