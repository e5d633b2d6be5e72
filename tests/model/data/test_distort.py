"""Careless photographs: what may change, what stays, and that the rest of a batch is not touched."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model.data.batch_rng import BatchRng
from model.data.distort import distort, turn


@pytest.fixture
def squares() -> Tensor:
    """A light square before black: uint8 [64, 28, 28, 1]."""
    pixels = torch.zeros(64, 28, 28, 1, dtype=torch.uint8)
    pixels[:, 8:20, 8:20] = 200
    return pixels


def test_only_the_share_is_varied(squares: Tensor) -> None:
    varied = distort(squares, 0.5, BatchRng([1], 64))
    changed = (varied != squares).flatten(1).any(1)
    assert 20 <= changed.sum() <= 40
    assert torch.equal(distort(squares, 0.0, BatchRng([1], 64)), squares)


def test_a_key_gives_the_same_pictures_whoever_draws_them(squares: Tensor) -> None:
    whole = distort(squares, 1.0, BatchRng([3], 64))
    half = distort(squares[32:], 1.0, BatchRng([3], 64, slice(32, 64)))
    assert torch.equal(whole[32:], half)
    assert not torch.equal(whole, distort(squares, 1.0, BatchRng([4], 64)))


def test_backgrounds_rise_to_at_most_110_and_the_thing_stays_brighter(squares: Tensor) -> None:
    varied = distort(squares, 1.0, BatchRng([0], 64)).float()
    corners = varied[:, 0, 0, 0]
    assert corners.std() > 15
    middles, borders = varied[:, 12:16, 12:16].mean((1, 2, 3)), varied[:, (0, -1)].mean((1, 2, 3))
    assert (middles > borders + 5).float().mean() > 0.9


def test_the_thing_is_turned_scaled_and_shifted(squares: Tensor) -> None:
    varied = distort(squares, 1.0, BatchRng([0], 64)).float()
    spread = varied.amax((1, 2, 3), keepdim=True) + varied.amin((1, 2, 3), keepdim=True)
    seen = (varied > spread / 2).float()
    areas = seen.sum((1, 2, 3))
    assert areas.min() < 0.6 * 144
    rows = torch.arange(28.0)[None, :, None, None]
    middles = (seen * rows).sum((1, 2, 3)) / areas.clamp(min=1)
    assert middles.std() > 0.4


def test_a_light_border_stays_and_colors_are_kept(squares: Tensor) -> None:
    white = 255 - squares.expand(-1, -1, -1, 3).contiguous()
    varied = distort(white, 1.0, BatchRng([0], 64)).float()
    assert varied.shape == white.shape
    assert np.median(varied[:, 0].numpy()) > 180


def test_turning_moves_the_thing_about_the_middle_and_changes_no_light(squares: Tensor) -> None:
    turned = turn(squares, 1.0, BatchRng([0], 64)).float()
    rows = torch.arange(28.0)[None, :, None, None]
    weights = turned.sum((1, 2, 3))
    assert (turned != squares).flatten(1).any(1).float().mean() > 0.9
    assert ((turned * rows).sum((1, 2, 3)) / weights - 13.5).abs().max() < 0.2
    assert (weights / squares.float().sum((1, 2, 3)) - 1).abs().max() < 0.02
    assert turned[:, 13, 13].eq(200).all()


def test_only_the_share_is_turned(squares: Tensor) -> None:
    changed = (turn(squares, 0.5, BatchRng([1], 64)) != squares).flatten(1).any(1)
    assert 20 <= changed.sum() <= 40
