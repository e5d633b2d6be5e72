"""Rules choose by chance, by probability, by class and by uncertainty; any is enough."""

import pytest

from app.collection.rules import Rules


@pytest.mark.parametrize(
    ("rules", "chosen_by"),
    [
        (Rules(), []),
        (Rules(share=0.5, chance=lambda: 0.49), ["share"]),
        (Rules(share=0.5, chance=lambda: 0.5), []),
        (Rules(share=1.0, chance=lambda: 0.999), ["share"]),
        (Rules(below_probability=0.71), ["below_probability"]),
        (Rules(below_probability=0.7), []),
        (Rules(classes=frozenset({"red", "blue"})), ["class"]),
        (Rules(classes=frozenset({"blue"})), []),
        (Rules(uncertain=True), ["uncertain"]),
        (Rules(1.0, 0.9, frozenset({"red"}), uncertain=True), ["share", "below_probability", "class", "uncertain"]),
    ],
)
def test_each_rule_chooses_what_it_says(rules: Rules, chosen_by: list[str]) -> None:
    assert rules.choosing("red", 0.7, uncertain=True) == chosen_by


def test_a_sure_answer_is_not_uncertain() -> None:
    assert Rules(uncertain=True).choosing("red", 0.1, uncertain=False) == []


def test_a_share_of_nothing_never_asks_for_chance() -> None:
    def chance() -> float:
        raise AssertionError("asked")

    assert Rules(chance=chance).choosing("red", 0.5, uncertain=True) == []


def test_a_share_is_about_that_share() -> None:
    rules = Rules(share=0.2)
    chosen = sum(bool(rules.choosing("red", 0.5, uncertain=False)) for _ in range(5000))
    assert 850 < chosen < 1150  # 5 standard deviations
