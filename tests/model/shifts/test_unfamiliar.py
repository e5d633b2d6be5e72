import numpy as np
import pytest

from model.shifts.unfamiliar import UNFAMILIAR


@pytest.mark.parametrize("shape", [(4, 28, 28, 1), (3, 32, 32, 3)])
@pytest.mark.parametrize("name", UNFAMILIAR)
def test_pictures_of_no_class_are_all_different_and_decided_by_the_seed(name: str, shape: tuple[int, ...]) -> None:
    made = UNFAMILIAR[name](np.random.default_rng(5), shape)
    assert (made.dtype, made.shape) == (np.uint8, shape)
    assert len({one.tobytes() for one in made}) == len(made)
    assert all(np.ptp(one) > 5 for one in made)
    assert np.array_equal(made, UNFAMILIAR[name](np.random.default_rng(5), shape))
