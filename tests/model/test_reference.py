"""How answers are told apart from those of held-out pictures: bins, and one number for each."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.reference import MOST_CLASS_BINS, Bins, Reference, class_bin, class_bins, probability_bin, stability_index

TENTHS = (0.1,) * 10
FIELDS: dict[str, Any] = {
    "data_set": "toy, validation",
    "num_pictures": 1000,
    "classes": (0.5, 0.3, 0.2),
    "probability": (0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5),
    "energy_edges": (1, 2, 3, 4, 5, 6, 7, 8, 9),
    "energy": TENTHS,
}
REFERENCE = Reference(**FIELDS)


def test_answers_fall_into_bins() -> None:
    counted = REFERENCE.counted([(0, 0.95, 0.5), (0, 1.0, 1.0), (2, 0.4, 42.0)])
    assert counted == Bins(
        classes=(2, 0, 1), probability=(0, 0, 0, 0, 1, 0, 0, 0, 0, 2), energy=(1, 1, 0, 0, 0, 0, 0, 0, 0, 1)
    )


def test_what_is_expected_are_the_shares() -> None:
    assert REFERENCE.expected() == Bins(
        classes=FIELDS["classes"], probability=FIELDS["probability"], energy=FIELDS["energy"]
    )


def test_many_classes_share_bins() -> None:
    reference = Reference(**{**FIELDS, "classes": (1e-3,) * 1000})
    assert reference.expected().classes == pytest.approx((1 / MOST_CLASS_BINS,) * MOST_CLASS_BINS)
    assert sum(reference.counted([(index, 0.5, 0.5) for index in range(1000)]).classes) == 1000


@given(st.integers(1, 3000), st.data())
def test_every_class_has_a_bin_and_every_bin_a_class(num_classes: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, num_classes - 1))
    assert 0 <= class_bin(index, num_classes) < class_bins(num_classes)
    bins = {class_bin(one, num_classes) for one in range(num_classes)}
    assert bins == set(range(class_bins(num_classes)))


@pytest.mark.parametrize(("probability", "place"), [(0.0, 0), (0.099, 0), (0.1, 1), (0.95, 9), (1.0, 9)])
def test_probabilities_have_ten_bins(probability: float, place: int) -> None:
    assert probability_bin(probability) == place


def test_the_index_is_the_one_of_the_textbook() -> None:
    found = stability_index((200_000, 800_000), (0.5, 0.5), 1_000_000)
    assert found == pytest.approx((0.2 - 0.5) * math.log(0.2 / 0.5) + (0.8 - 0.5) * math.log(0.8 / 0.5), rel=1e-4)


def test_the_same_shares_have_an_index_of_nothing() -> None:
    assert stability_index((100,) * 10, TENTHS, 1000) == pytest.approx(0, abs=1e-12)


def test_an_empty_bin_is_no_infinite_surprise() -> None:
    assert 0.25 < stability_index((1000, 0), (0.5, 0.5), 1000) < 10
    assert 0.25 < stability_index((500, 500), (1.0, 0.0), 1000) < 10


@given(st.integers(0, 10_000))
def test_chance_alone_stays_below_a_tenth(seed: int) -> None:
    drawn = random.Random(seed).choices(range(10), k=1000)
    assert stability_index([drawn.count(place) for place in range(10)], TENTHS, 1000) < 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": (0.5, 0.3)}, "classes has the sum 0.8"),
        ({"energy": (0.2,) * 10}, "energy has the sum 2"),
        ({"energy_edges": (1, 3, 2, 4, 5, 6, 7, 8, 9)}, "ascending"),
        ({"energy_edges": (1, 2)}, "at least 9"),
        ({"probability": (1.0,)}, "at least 10"),
        ({"classes": (1.5, -0.5)}, "less than or equal to 1"),
        ({"energy_edges": (math.nan,) * 9}, "finite"),
        ({"later": 1}, "Extra inputs"),
    ],
)
def test_what_is_no_reference_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Reference(**{**FIELDS, **change})
