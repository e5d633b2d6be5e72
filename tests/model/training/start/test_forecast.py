"""How long a run is expected to take."""

from collections.abc import Callable, Iterator

import pytest
import torch

from model.training.start.forecast import expected_s
from tests.model.toys import toy_config, toy_recipe

CPU = torch.device("cpu")


def clock(*readings: float) -> Callable[[], float]:
    values: Iterator[float] = iter(readings)
    return lambda: next(values)


def test_it_is_the_time_of_a_picture_times_all_that_are_learnt_from_and_a_third_of_those_judged_by() -> None:
    recipe = toy_recipe(epochs=10, batch_size=16)
    assert expected_s(toy_config(), recipe, 100, 30, CPU, clock(0.0, 3.2)) == pytest.approx(10 * 0.1 * 110)


def test_sharpness_aware_steps_take_twice_the_time() -> None:
    recipe = toy_recipe(epochs=1, batch_size=4, sam_rho=0.1)
    assert expected_s(toy_config(), recipe, 100, 0, CPU, clock(0.0, 0.8)) == pytest.approx(0.1 * 200)
