from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.training.schedule import learning_rate
from tests.model.toys import toy_recipe


def _rates(steps_per_epoch: int, **changes: Any) -> list[float]:
    """Of every step, and of the one after the last."""
    recipe = toy_recipe(**{"learning_rate": 1.0, **changes})
    return [learning_rate(step, steps_per_epoch, recipe) for step in range(recipe.epochs * steps_per_epoch + 1)]


def test_without_a_warm_up_a_cosine_falls_from_the_first_step_to_zero() -> None:
    rates = _rates(2, epochs=2, warmup_epochs=0, decay="cosine", learning_rate=0.2)
    assert rates == pytest.approx([0.2, 0.170711, 0.1, 0.029289, 0.0], abs=1e-6)


def test_without_a_warm_up_a_line_falls_from_the_first_step_to_zero() -> None:
    assert _rates(2, epochs=2, warmup_epochs=0, decay="linear") == pytest.approx([1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize(
    ("decay", "falling"), [("linear", [1, 0.75, 0.5, 0.25, 0]), ("cosine", [1, 0.853553, 0.5, 0.146447, 0])]
)
def test_a_warm_up_rises_step_by_step_to_the_recipes_rate_which_the_next_step_still_has(
    decay: str, falling: list[float]
) -> None:
    rates = _rates(2, epochs=4, warmup_epochs=2, decay=decay)
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, *falling], abs=1e-6)


def test_a_warm_up_longer_than_the_run_is_cut_short() -> None:
    assert _rates(1, epochs=3, warmup_epochs=6) == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6])


@given(
    steps_per_epoch=st.integers(1, 7),
    epochs=st.integers(1, 6),
    warmup_epochs=st.floats(0, 8),
    decay=st.sampled_from(["cosine", "linear"]),
)
def test_the_rate_rises_once_and_falls_once_and_never_exceeds_the_recipes(
    steps_per_epoch: int, epochs: int, warmup_epochs: float, decay: str
) -> None:
    rates = _rates(steps_per_epoch, epochs=epochs, warmup_epochs=warmup_epochs, decay=decay, learning_rate=0.5)
    assert all(0 <= rate <= 0.5 for rate in rates)
    assert all(rate > 0 for rate in rates[:-1])
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if warmup_epochs <= epochs - 1 / steps_per_epoch:
        assert rates[-1] == pytest.approx(0, abs=1e-12)
