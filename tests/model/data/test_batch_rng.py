import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.data.batch_rng import BatchRng


def _draws(rng: BatchRng) -> list[Tensor]:
    """A draw of every kind, then one that comes out right only if each before it drew for the whole batch."""
    return [rng.uniform(), rng.uniform(2, 1), rng.integers(-3, 3, 2), rng.beta(0.5), rng.uniform(3)]


@given(total=st.integers(0, 30), ends=st.tuples(st.integers(0, 30), st.integers(0, 30)), seed=st.integers(0, 2**63))
def test_the_rows_of_a_batch_draw_what_the_whole_batch_draws(total: int, ends: tuple[int, int], seed: int) -> None:
    rows = slice(*sorted(min(end, total) for end in ends))
    whole, cut = _draws(BatchRng([seed], total)), _draws(BatchRng([seed], total, rows))
    assert all(torch.equal(ours[rows], theirs) for ours, theirs in zip(whole, cut, strict=True))


def test_noise_is_the_same_for_all_rows_of_a_batch_and_other_at_the_next_draw() -> None:
    first, second = BatchRng([1], 8, slice(0, 2)), BatchRng([1], 8, slice(2, 8))
    for rng in (first, second):
        rng.uniform()
    noise = first.noise(8, 9, 3)
    assert (noise.shape, noise.dtype) == ((8, 9, 3), torch.uint8)
    assert torch.equal(noise, second.noise(8, 9, 3))
    assert not torch.equal(noise, first.noise(8, 9, 3))


def test_noise_takes_every_value_of_a_byte() -> None:
    assert len(BatchRng([0], 1).noise(100, 100).unique()) == 256


@pytest.mark.parametrize("key", [[0, 1, 3], [0, 2, 2], [1, 1, 2], [2, 1, 0], [0, 1]])
def test_every_number_of_the_key_decides(key: list[int]) -> None:
    assert torch.equal(BatchRng([0, 1, 2], 5).uniform(), BatchRng([0, 1, 2], 5).uniform())
    assert not torch.equal(BatchRng([0, 1, 2], 5).uniform(), BatchRng(key, 5).uniform())


def test_two_draws_are_not_alike() -> None:
    rng = BatchRng([0], 5)
    assert not torch.equal(rng.uniform(), rng.uniform())


def test_uniform_is_float32_from_0_up_to_1() -> None:
    drawn = BatchRng([0], 1000).uniform(2)
    assert (drawn.shape, drawn.dtype) == ((1000, 2), torch.float32)
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.03


def test_integers_are_int64_with_both_ends() -> None:
    drawn = BatchRng([0], 200).integers(-1, 2, 3)
    assert (drawn.shape, drawn.dtype) == ((200, 3), torch.int64)
    assert drawn.unique().tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize(("alpha", "variance"), [(0.1, 0.208), (1.0, 0.083), (20.0, 0.0061)])
def test_beta_has_the_mean_and_variance_of_its_distribution(alpha: float, variance: float) -> None:
    drawn = BatchRng([0], 5000).beta(alpha)  # the variance is 1 / (4 (2 alpha + 1))
    assert (drawn.shape, drawn.dtype) == ((5000,), torch.float32)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert abs(drawn.mean() - 0.5) < 0.02
    assert drawn.var().item() == pytest.approx(variance, rel=0.06)


def test_nobody_elses_generator_is_asked_or_moved() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    first = _draws(BatchRng([0], 4))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]
    torch.manual_seed(2)
    assert all(torch.equal(one, other) for one, other in zip(first, _draws(BatchRng([0], 4)), strict=True))


def test_draws_lie_on_the_device_asked_for() -> None:
    rng = BatchRng([0], 4, device="meta")
    assert {drawn.device.type for drawn in [*_draws(rng), rng.noise(2)]} == {"meta"}
