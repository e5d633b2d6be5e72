import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.data.batch_rng import BatchRng
from model.data.mixing import mix
from tests.model.toys import random_pixels

Mixed = tuple[Tensor, Tensor]


def _mixed(pixels: Tensor, mixup: float = 0.0, cutmix: float = 0.0, seed: int = 0) -> Mixed:
    """Each picture has a class of its own, so that the targets tell what went into it."""
    return mix(pixels, torch.eye(len(pixels)), mixup, cutmix, BatchRng([seed], len(pixels)))


def _noise(count: int, size: int = 12, channels: int = 3) -> Tensor:
    return torch.from_numpy(random_pixels(count, size, size, channels))


def _plain(values: list[int], size: int = 16) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, size, size, 3).clone()


def _shares(targets: Tensor) -> Tensor:
    """How much of each picture [N, 1, 1, 1] is its own; the rest belongs to its neighbour, and to no other."""
    count = len(targets)
    own = targets.diagonal()
    partner = torch.arange(count) ^ 1
    expected = torch.diag(own)
    expected[torch.arange(count), partner] += 1 - own
    torch.testing.assert_close(targets, expected)
    return own[:, None, None, None]


def test_both_off_leaves_the_very_same_pictures_and_targets() -> None:
    pixels, targets = _noise(4), torch.eye(4)
    assert mix(pixels, targets, 0.0, 0.0, BatchRng([0], 4)) == (pixels, targets)


@pytest.mark.parametrize("settings", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)], ids=["mixup", "cutmix", "both"])
def test_pictures_given_are_left_as_they_were_and_keep_shape_and_type(settings: tuple[float, float]) -> None:
    pixels = _noise(6, channels=1)
    mixed, targets = _mixed(pixels, *settings)
    assert torch.equal(pixels, _noise(6, channels=1))
    assert (mixed.shape, mixed.dtype) == (pixels.shape, torch.uint8)
    assert (targets.shape, targets.dtype) == ((6, 6), torch.float32)
    assert not torch.equal(mixed, pixels)


@pytest.mark.parametrize("settings", [(0.3, 0.0), (0.0, 0.3), (0.3, 0.3)], ids=["mixup", "cutmix", "both"])
def test_targets_stay_probabilities(settings: tuple[float, float]) -> None:
    _, targets = _mixed(_noise(50), *settings)
    assert targets.min() >= 0
    torch.testing.assert_close(targets.sum(1), torch.ones(50))


def test_mixup_takes_the_same_weighted_mean_of_two_neighbours_and_of_their_targets() -> None:
    pixels = _noise(10)
    mixed, targets = _mixed(pixels, mixup=1.0)
    share = _shares(targets)
    expected = pixels * share + pixels[torch.arange(10) ^ 1] * (1 - share)
    assert (mixed - expected).abs().max() <= 0.501
    assert len(share.unique()) == 10  # each picture has its own
    assert 0.1 < share.mean() < 0.9


def test_mixup_of_a_large_alpha_takes_halves() -> None:
    _, targets = _mixed(_noise(20), mixup=1000.0)
    torch.testing.assert_close(_shares(targets), torch.full((20, 1, 1, 1), 0.5), atol=0.05, rtol=0)


def test_cutmix_pastes_one_rectangle_of_the_neighbour_and_shares_by_what_is_seen() -> None:
    pixels = _plain([10 * index for index in range(20)])
    mixed, targets = _mixed(pixels, cutmix=1.0)
    pasted = mixed != pixels
    assert torch.equal(mixed, torch.where(pasted, pixels[torch.arange(20) ^ 1], pixels))
    assert torch.equal(pasted[..., 0], pasted[..., 2])
    corners = set()
    for mask in pasted[..., 0]:
        rows, columns = mask.nonzero().T
        if len(rows):
            inside = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert inside.all()
            corners.add((rows.min().item(), columns.min().item()))
    assert len(corners) > 10
    torch.testing.assert_close(_shares(targets).flatten(), 1 - pasted[..., 0].flatten(1).float().mean(1))


def test_cutmix_of_a_large_alpha_covers_half_the_area() -> None:
    _, targets = _mixed(_noise(20, size=32), cutmix=1000.0)
    torch.testing.assert_close(_shares(targets), torch.full((20, 1, 1, 1), 0.5), atol=0.08, rtol=0)


def test_with_both_on_each_picture_gets_either_and_the_targets_that_belong_to_it() -> None:
    pixels = _plain([0, 255] * 100)
    mixed, targets = _mixed(pixels, mixup=1.0, cutmix=1.0)
    light = mixed.flatten(1).float().mean(1) / 255
    own = torch.where(torch.arange(200) % 2 == 0, 1 - light, light)
    torch.testing.assert_close(_shares(targets).flatten(), own, atol=0.003, rtol=0)
    pasted = torch.tensor([len(image.unique()) == 2 for image in mixed])
    blended = torch.tensor([len(image.unique()) == 1 and 0 < image.max() < 255 for image in mixed])
    assert (pasted | blended).float().mean() > 0.95
    assert 0.35 < pasted.float().mean() < 0.65


@pytest.mark.parametrize("settings", [(1.0, 0.0), (0.0, 1.0)], ids=["mixup", "cutmix"])
def test_the_last_of_an_odd_number_stays_as_it_is(settings: tuple[float, float]) -> None:
    pixels = _noise(5)
    mixed, targets = mix(pixels, torch.eye(5), *settings, BatchRng([0], 5))
    assert torch.equal(mixed[4], pixels[4])
    torch.testing.assert_close(targets[4], torch.eye(5)[4])
    assert not torch.equal(mixed[3], pixels[3])


@given(
    total=st.integers(0, 9),
    pairs=st.integers(0, 5),
    settings=st.tuples(st.sampled_from([0.0, 0.4]), st.sampled_from([0.0, 1.0])),
)
def test_a_batch_cut_at_an_even_place_mixes_as_in_one_piece(
    total: int, pairs: int, settings: tuple[float, float]
) -> None:
    pixels, targets, cut = _noise(total, size=6), torch.eye(total), min(2 * pairs, total)
    whole = mix(pixels, targets, *settings, BatchRng([3], total))
    parts = [
        mix(pixels[rows], targets[rows], *settings, BatchRng([3], total, rows))
        for rows in (slice(0, cut), slice(cut, total))
    ]
    for index in range(2):
        assert torch.equal(torch.cat([part[index] for part in parts]), whole[index])
