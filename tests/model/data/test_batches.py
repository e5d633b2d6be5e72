from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.data.batches import Batches, Part
from model.training.processes import shard_slices
from tests.model.toys import toy_images, toy_recipe

IMAGES = toy_images(22, 3)
BLOCKS = 3
STILL = {"flip": 0.0, "pad_crop": 0.0, "erase": 0.0, "stochastic_depth": 0.0}
EVERYTHING = {"mixup": 0.5, "cutmix": 0.5, "randaugment_layers": 2, "invert": 0.3}


def _batches(**changes: Any) -> Batches:
    recipe = toy_recipe(**{"batch_size": 9, **changes})
    return Batches(IMAGES, recipe, 2, BLOCKS, torch.device("cpu"))


def _whole(batches: Batches, step: int) -> Part:
    return batches.part(step, slice(0, len(batches.rows(step))))


def _tensors(part: Part) -> list[Tensor]:
    """Everything a part holds, pictures first."""
    assert part.branch_draws is not None
    return [part.pixels, part.for_teacher, part.targets, part.branch_draws]


def test_every_epoch_has_every_picture_once_in_an_order_of_its_own() -> None:
    batches = _batches()
    assert batches.per_epoch == 3
    epochs = [[batches.rows(3 * epoch + step).tolist() for step in range(3)] for epoch in range(4)]
    assert [[len(rows) for rows in epoch] for epoch in epochs] == [[9, 9, 4]] * 4
    orders = [[row for rows in epoch for row in rows] for epoch in epochs]
    assert all(sorted(order) == list(range(22)) for order in orders)
    assert len({tuple(order) for order in [*orders, list(range(22))]}) == 5


def test_a_batch_larger_than_the_set_is_the_whole_set() -> None:
    batches = _batches(batch_size=100)
    assert batches.per_epoch == 1
    assert sorted(batches.rows(7).tolist()) == list(range(22))


def test_the_seed_decides_the_order() -> None:
    assert _batches(seed=1).rows(0).tolist() != _batches(seed=2).rows(0).tolist()


def test_without_variation_a_part_is_the_pictures_and_their_classes() -> None:
    batches = _batches(**STILL)
    part, rows = batches.part(4, slice(2, 7)), batches.rows(4)[2:7]
    np.testing.assert_array_equal(part.pixels.numpy(), IMAGES.pixels[rows])
    np.testing.assert_array_equal(part.targets.numpy(), np.eye(2, dtype=np.float32)[IMAGES.labels[rows]])
    assert part.branch_draws is None


def test_a_step_is_the_same_whoever_asks_and_whatever_was_asked_before() -> None:
    fresh, used = (_batches(**EVERYTHING) for _ in range(2))
    for step in (11, 0, 4):
        _whole(used, step)
    for ours, theirs in zip(_tensors(_whole(fresh, 5)), _tensors(_whole(used, 5)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("changes", [{"seed": 1}, {}], ids=["seed", "step"])
def test_seed_and_step_decide_how_a_picture_varies(changes: dict[str, Any]) -> None:
    # all pictures alike, so that the order has no say
    alike = type(IMAGES)(np.repeat(IMAGES.pixels[:1], 22, axis=0), IMAGES.labels)
    settings = toy_recipe(batch_size=9), toy_recipe(batch_size=9, **changes)
    first, second = (Batches(alike, recipe, 2, BLOCKS, torch.device("cpu")) for recipe in settings)
    one, other = _whole(first, 0), _whole(second, 0 if changes else 1)
    assert not torch.equal(one.pixels, other.pixels)
    assert not torch.equal(one.branch_draws, other.branch_draws)  # type: ignore[arg-type]


@given(step=st.integers(0, 8), count=st.integers(1, 6), changes=st.sampled_from([{}, EVERYTHING, {"mixup": 1.0}]))
def test_the_parts_of_a_step_are_the_whole_step_cut_up(step: int, count: int, changes: dict[str, Any]) -> None:
    batches = _batches(**changes)
    total = len(batches.rows(step))
    cut = [_tensors(batches.part(step, places)) for places in shard_slices(total, count)]
    for index, whole in enumerate(_tensors(_whole(batches, step))):
        together = torch.cat([tensors[index] for tensors in cut])
        # a convolution, a mean may round by the size of a batch
        torch.testing.assert_close(together.float(), whole.float(), rtol=0, atol=1.0 if index in (0, 1) else 1e-1)


def test_the_parts_of_a_step_draw_exactly_what_the_whole_step_draws() -> None:
    batches = _batches(mixup=0.5, cutmix=0.5, invert=0.3)
    cut = [_tensors(batches.part(1, places)) for places in shard_slices(9, 3)]
    for index, whole in enumerate(_tensors(_whole(batches, 1))):
        assert torch.equal(torch.cat([tensors[index] for tensors in cut]), whole)


# --- what a teacher sees ---


def test_a_teacher_sees_what_the_pupil_sees_unless_the_recipe_says_undistorted() -> None:
    same = _whole(_batches(distort=1.0, **EVERYTHING), 0)
    assert torch.equal(same.pixels, same.for_teacher)
    other = _whole(_batches(distort=1.0, teacher_undistorted=True, **EVERYTHING), 0)
    assert torch.equal(other.pixels, same.pixels)
    assert torch.equal(other.targets, same.targets)
    assert not torch.equal(other.for_teacher, same.pixels)
    still = _whole(_batches(distort=1.0, teacher_undistorted=True, **STILL), 0)
    rows = _batches(**STILL).rows(0)
    np.testing.assert_array_equal(still.for_teacher.numpy(), IMAGES.pixels[rows])


# --- views that repeat ---


@pytest.mark.parametrize("changes", [{}, {"crop_scale": 0.3}], ids=["mixed", "cropped"])
def test_views_repeat_in_all_but_the_dropped_branches(changes: dict[str, Any]) -> None:
    viewed, endless = (_batches(**EVERYTHING, **changes, views=views) for views in (2, 0))
    for step in range(3 * viewed.per_epoch):
        first_shown = step % (2 * viewed.per_epoch)
        assert viewed.rows(step).tolist() == endless.rows(first_shown).tolist()
        *shown, branches = _tensors(_whole(viewed, step))
        *expected, first_branches = _tensors(_whole(endless, first_shown))
        assert all(torch.equal(one, other) for one, other in zip(shown, expected, strict=True))
        assert torch.equal(branches, first_branches) == (step == first_shown)


def test_every_picture_has_a_place_of_its_own_among_all_views() -> None:
    batches = _batches(views=2)
    places = [batches.places_among_views(step, slice(0, len(batches.rows(step)))) for step in range(6)]
    assert [(place.start, place.stop) for place in places] == [(0, 9), (9, 18), (18, 22), (22, 31), (31, 40), (40, 44)]
    assert batches.places_among_views(6 + 4, slice(2, 5)) == slice(33, 36)
