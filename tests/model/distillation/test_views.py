"""Views: what they keep of a picture, what they change, and that a seed decides them."""

import numpy as np
import pytest
import torch

from model.distillation.bank import Bank
from model.distillation.views import Variation, ViewMaker

PLAIN = Variation(smallest_crop=0.999, wide=0, mixed=0, colored=0, noisy=0, blurred=0, hidden=0)


def test_a_seed_gives_the_same_views_and_another_gives_others(bank: Bank) -> None:
    rows = torch.arange(16)
    first, again, other = (ViewMaker(bank, 48, seed).take(rows) for seed in (1, 1, 2))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.shares, again.shares)
    assert not torch.equal(first.pixels, other.pixels)


def test_views_are_pictures_of_the_wanted_size(bank: Bank) -> None:
    views = ViewMaker(bank, 64, 0).take(torch.arange(len(bank)))
    assert views.pixels.shape == (len(bank), 3, 64, 64)
    assert views.pixels.dtype == torch.uint8
    assert torch.equal(views.labels, bank.labels)


def test_no_two_views_of_a_picture_are_alike(bank: Bank) -> None:
    views = ViewMaker(bank, 32, 0).take(torch.zeros(20, dtype=torch.int64))
    assert len({pixels.numpy().tobytes() for pixels in views.pixels}) == 20


def test_without_variation_the_colors_of_a_picture_stay(bank: Bank) -> None:
    rows = torch.arange(24)
    views = ViewMaker(bank, 64, 0, PLAIN).take(rows)
    light = views.pixels.float().flatten(1).median(1).values
    assert (light[:12] < 130).sum() >= 11
    assert (light[12:] > 130).sum() >= 11
    assert (views.shares == 1).all()


def test_a_mixed_view_tells_its_partner_and_its_share(bank: Bank) -> None:
    rows = torch.tensor([0, 12] * 32)  # dark and light are neighbours
    variation = Variation(smallest_crop=0.999, wide=0, mixed=1, colored=0, noisy=0, blurred=0, hidden=0)
    views = ViewMaker(bank, 48, 3, variation).take(rows)
    assert torch.equal(views.other_labels, 1 - views.labels)
    assert ((views.shares >= 0.49) & (views.shares < 1)).all()
    own = torch.where(views.labels == 0, 60.0, 200.0)
    expected = own * views.shares + (260 - own) * (1 - views.shares)
    close = (views.pixels.float().mean((1, 2, 3)) - expected).abs() < 60  # backgrounds show at turned corners
    assert close.float().mean() > 0.7


def test_backgrounds_show_behind_cut_outs(bank: Bank) -> None:
    cut_out = torch.full((16,), 24)
    views = ViewMaker(bank, 48, 0, PLAIN).take(cut_out)
    assert np.std(views.pixels.float().mean((1, 2, 3)).numpy()) > 5  # each before another one


@pytest.mark.parametrize("field", ["noisy", "blurred", "hidden", "colored"])
def test_each_variation_changes_the_pixels(bank: Bank, field: str) -> None:
    plain = {name: getattr(PLAIN, name) for name in PLAIN.__dataclass_fields__}
    rows = torch.arange(8)
    changed = ViewMaker(bank, 48, 0, Variation(**plain | {field: 1.0})).take(rows).pixels
    assert not torch.equal(changed, ViewMaker(bank, 48, 0, PLAIN).take(rows).pixels)
