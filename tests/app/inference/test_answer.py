"""What is asked for is checked against the model, and an answer has that and no more."""

import math

import numpy as np
import pytest

from app.engine.runners import Outputs
from app.errors import BadParameter
from app.inference.answer import Asked, Wanted, certainty_of, predictions_of, wanted_of
from app.inference.scores import Scores, scores_of
from model.evaluation.confidence import energies, fit_conformal, label_sets
from model.evaluation.evaluate import probabilities_of
from model.spec import Conformal
from tests.app.color_bundle import color_spec

PLAIN = color_spec(canary=None)
CONFORMAL = Conformal(data_set="colours", num_pictures=4, scores=(0.1, 0.2, 0.6, 0.9))
SURE = color_spec(canary=None, energy_threshold=8.0, conformal=CONFORMAL)


def scores(*logits: float, temperature: float = 1.0) -> Scores:
    (found,) = scores_of(Outputs(np.array([logits], dtype=np.float32)), temperature)
    return found


# --- what is asked for ---


def test_top_k_is_between_one_and_the_number_of_classes() -> None:
    assert [wanted_of(PLAIN, {"top_k": top_k}).top_k for top_k in (None, 1, 3)] == [3, 1, 3]
    for wrong in (0, -1, 4):
        with pytest.raises(BadParameter, match=rf"^top_k is {wrong}; expected 1 to 3, the number of classes\.$"):
            wanted_of(PLAIN, {"top_k": wrong})


def test_top_k_is_five_where_there_are_more_classes() -> None:
    assert wanted_of(color_spec(canary=None, num_classes=7, labels=tuple("abcdefg")), {}).top_k == 5


def test_a_threshold_that_is_given_goes_before_the_models_own() -> None:
    assert wanted_of(PLAIN, {}) == Wanted(3)
    assert wanted_of(PLAIN, {"threshold": 2.5}) == Wanted(3, 2.5)
    assert wanted_of(SURE, {"threshold": None}) == Wanted(3, 8.0)
    assert wanted_of(SURE, {"threshold": 0.0}) == Wanted(3, 0.0)


@pytest.mark.parametrize(("coverage", "largest"), [(0.1, 0.1), (0.5, 0.6), (0.8, 0.9), (0.81, 1.0)])
def test_a_set_has_labels_up_to_the_quantile_of_its_coverage(coverage: float, largest: float) -> None:
    assert wanted_of(SURE, {"set": coverage}) == Wanted(3, 8.0, coverage, largest)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"threshold": math.nan}, "threshold is nan; expected a finite number."),
        ({"threshold": -math.inf}, "threshold is -inf; expected a finite number."),
        ({"set": 0.0}, "set is 0.0; expected a coverage above 0 and below 1."),
        ({"set": 1.0}, "set is 1.0; expected a coverage above 0 and below 1."),
        ({"set": math.nan}, "set is nan; expected a coverage above 0 and below 1."),
    ],
)
def test_impossible_values(asked: Asked, words: str) -> None:
    with pytest.raises(BadParameter) as refused:
        wanted_of(SURE, asked)
    assert str(refused.value) == words


def test_a_model_without_scores_makes_no_sets() -> None:
    with pytest.raises(BadParameter, match=r"^set is 0\.9; this model has no scores to make sets of, expected none\.$"):
        wanted_of(PLAIN, {"set": 0.9})


# --- what is answered ---


def test_predictions_are_the_most_probable_labels() -> None:
    first, second = predictions_of(PLAIN, scores(0, 2, 1), 2)
    assert (first["label"], first["index"], second["label"], second["index"]) == ("green", 1, "blue", 2)
    assert first["probability"] == pytest.approx(math.exp(2) / (1 + math.exp(1) + math.exp(2)))


def test_what_is_not_wanted_is_not_told() -> None:
    assert certainty_of(SURE, scores(1, 2, 3), Wanted(3)) == {}


def test_an_answer_is_uncertain_below_the_threshold_whatever_the_temperature() -> None:
    energy = math.log(sum(map(math.exp, (1, 2, 3))))
    found = scores(1, 2, 3, temperature=2.5)
    assert found.energy == pytest.approx(energy)
    for threshold, uncertain in ((found.energy, False), (math.nextafter(found.energy, 9), True), (0.0, False)):
        wanted = Wanted(1, threshold)
        assert certainty_of(SURE, found, wanted) == {"uncertain": uncertain, "energy": pytest.approx(energy)}


def test_a_set_has_the_most_probable_label_first_and_is_never_empty() -> None:
    split = scores(5, 0, 5)  # two labels of a probability just below a half
    assert certainty_of(SURE, split, wanted_of(PLAIN, {})) == {}
    for coverage, labels in ((0.1, ["red"]), (0.5, ["red", "blue"]), (0.81, ["red", "blue", "green"])):
        told = certainty_of(SURE, split, wanted_of(SURE, {"set": coverage}))
        assert told["set"] == {"coverage": coverage, "labels": labels}


@pytest.mark.parametrize("coverage", [0.05, 0.5, 0.9, 0.99, 0.999])
def test_sets_and_energies_are_those_that_were_fitted(coverage: float) -> None:
    logits = np.random.default_rng(2).normal(0, 2, (300, 3)).astype(np.float32)
    exact, temperature = logits.astype(np.float64), 1.7
    conformal = fit_conformal(exact, np.arange(300) % 3, temperature, "noise")
    assert conformal is not None
    spec = color_spec(canary=None, temperature=temperature, conformal=conformal)
    wanted, inside = (
        wanted_of(spec, {"set": coverage}),
        label_sets(probabilities_of(exact, temperature), conformal, coverage),
    )
    for row, found, energy in zip(inside, scores_of(Outputs(logits), temperature), energies(exact), strict=True):
        told = certainty_of(spec, found, wanted)["set"]["labels"]
        assert set(told) == {label for label, is_in in zip(spec.labels, row, strict=True) if is_in}
        assert found.energy == pytest.approx(energy)


def test_logits_that_are_not_finite_spoil_their_own_row_only() -> None:
    rows = np.array([[1, 2, 3], [1, np.inf, 0], [np.nan, 0, 0], [3, 2, 1]], dtype=np.float32)
    found = scores_of(Outputs(rows), 1.0)
    assert [bool(np.isnan(one.probabilities).all()) for one in found] == [False, True, True, False]
    assert found[0].energy == pytest.approx(found[3].energy)
