import math

import pytest
import torch
from torch import Tensor

from model.data.batch_rng import BatchRng
from model.data.crop import cropped, draw_views
from tests.model.toys import random_pixels

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def _views(count: int = 2000, smallest: float = 0.08, seed: int = 0) -> Tensor:
    return draw_views(smallest, BatchRng([seed], count))


def _pixels(*shape: int) -> Tensor:
    return torch.from_numpy(random_pixels(*shape))


def test_views_lie_within_the_picture_with_areas_and_sides_as_asked_for() -> None:
    left, top, right, bottom = _views().unbind(1)
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= 1 + 1e-6
    assert bottom.max() <= 1 + 1e-6
    width, height = right - left, bottom - top
    assert 0.075 < (width * height).min() < 0.12
    assert (width * height).max() > 0.9
    assert (width / height).log().abs().max() <= math.log(4 / 3) + 1e-4
    assert (width / height).min() < 0.78
    assert (left > 0.5).any()
    assert (left < 0.01).any()


def test_the_smallest_area_is_what_was_asked_for() -> None:
    left, top, right, bottom = _views(smallest=0.5).unbind(1)
    assert ((right - left) * (bottom - top)).min() > 0.42  # 0.5, but for what is cut where a side is longer


def test_a_view_is_of_the_seed_and_of_the_place_in_the_batch() -> None:
    assert torch.equal(_views(), _views())
    assert not torch.equal(_views(), _views(seed=1))
    assert torch.equal(draw_views(0.08, BatchRng([0], 2000, slice(4, 9))), _views()[4:9])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_picture_is_itself(channels: int) -> None:
    pixels = _pixels(3, 16, 16, channels)
    assert torch.equal(cropped(pixels, WHOLE.expand(3, 4)), pixels)


def test_each_picture_gets_its_own_view_resized_to_its_size() -> None:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    ramp = (5 * rows + 10 * columns).to(torch.uint8)[None, :, :, None].expand(2, -1, -1, -1)
    views = cropped(ramp, torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.25, 1.0, 0.75]]))
    assert (views.shape, views.dtype) == (ramp.shape, torch.uint8)
    sizes = torch.arange(16) + 0.5
    for view, (left, top, width, height) in zip(views, [(0, 0, 0.5, 1), (8, 4, 0.5, 0.5)], strict=True):
        down, across = top + sizes * height - 0.5, left + sizes * width - 0.5
        expected = 5 * down[:, None] + 10 * across[None]
        inner = slice(1, 15)  # at the picture's edge its pixels repeat
        assert (view[inner, inner, 0] - expected[inner, inner]).abs().max() <= 1
