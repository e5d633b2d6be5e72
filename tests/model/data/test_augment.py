import pytest
import torch
from torch import Tensor

from model.data.augment import augment
from model.data.batch_rng import BatchRng
from model.recipe import Augmentation
from tests.model.toys import random_pixels

NOTHING = {"flip": 0.0, "pad_crop": 0.0, "erase": 0.0, "invert": 0.0}
OFF = Augmentation(**NOTHING)
EVERYTHING = Augmentation(flip=0.5, pad_crop=0.1, erase=0.5, invert=0.5, randaugment_layers=2)
STEPS = {
    "distort": 1.0,
    "turn": 1.0,
    "flip": 1.0,
    "pad_crop": 0.1,
    "erase": 1.0,
    "invert": 1.0,
    "randaugment_layers": 2,
}
ELSEWHERE = {"mixup", "cutmix", "crop_scale", "randaugment_magnitude"}


def _images(count: int = 6, size: int = 32, channels: int = 3) -> Tensor:
    return torch.from_numpy(random_pixels(count, size, size, channels))


def _augment(pixels: Tensor, augmentation: Augmentation, seed: int = 0) -> Tensor:
    return augment(pixels, augmentation, BatchRng([seed], len(pixels)))


def test_every_step_has_a_test_here() -> None:
    assert set(Augmentation.model_fields) == set(STEPS) | ELSEWHERE


def test_everything_off_changes_nothing() -> None:
    assert torch.equal(_augment(_images(), OFF), _images())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_changes_pictures_and_keeps_shape_and_type(name: str, channels: int) -> None:
    pixels = _images(channels=channels)
    varied = _augment(pixels, Augmentation(**{**NOTHING, name: STEPS[name]}))
    assert (varied.shape, varied.dtype) == (pixels.shape, torch.uint8)
    assert not torch.equal(varied, pixels)


def test_the_pictures_given_are_left_as_they_were() -> None:
    pixels = _images()
    _augment(pixels, EVERYTHING)
    assert torch.equal(pixels, _images())


def test_flip_mirrors_left_and_right() -> None:
    assert torch.equal(
        _augment(_images(), Augmentation(**{**NOTHING, "flip": 1})), _images()[:, :, torch.arange(31, -1, -1)]
    )


def test_invert_exchanges_light_and_dark() -> None:
    assert torch.equal(_augment(_images(), Augmentation(**{**NOTHING, "invert": 1})), 255 - _images())


@pytest.mark.parametrize("name", ["flip", "invert", "erase"])
def test_a_probability_is_of_a_picture(name: str) -> None:
    pixels = _images(400, 8)
    varied = _augment(pixels, Augmentation(**{**NOTHING, name: 0.25}))
    share = (varied != pixels).flatten(1).any(dim=1).float().mean().item()
    assert 0.1 < share < 0.4


def _moved(image: Tensor, down: int, right: int) -> Tensor:
    size = len(image)
    rows = [min(max(row + down, 0), size - 1) for row in range(size)]
    columns = [min(max(column + right, 0), size - 1) for column in range(size)]
    return image[rows][:, columns]


def test_shift_moves_a_picture_and_repeats_its_edge() -> None:
    pixels = _images(60, 8)
    shifted = _augment(pixels, Augmentation(**{**NOTHING, "pad_crop": 1 / 8}))
    seen = set()
    for before, after in zip(pixels, shifted, strict=True):
        moves = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if torch.equal(_moved(before, down, right), after)
        ]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) == 9  # each way, and not at all


def test_erase_fills_one_rectangle_of_2_to_25_percent() -> None:
    black = torch.zeros(50, 64, 64, 3, dtype=torch.uint8)
    corners = set()
    for image in _augment(black, Augmentation(**{**NOTHING, "erase": 1})):
        rows, columns = image.any(dim=2).nonzero().T
        inside = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert inside.any(dim=2).all()
        assert 0.01 <= inside[..., 0].numel() / 64**2 <= 0.3
        assert len(inside.unique()) > 100  # noise, not one colour
        corners.add((rows.min().item(), columns.min().item(), *inside.shape))
    assert len(corners) > 40  # each picture has its own


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others() -> None:
    assert torch.equal(_augment(_images(), EVERYTHING, 5), _augment(_images(), EVERYTHING, 5))
    assert not torch.equal(_augment(_images(), EVERYTHING, 5), _augment(_images(), EVERYTHING, 6))


def test_torchs_own_generator_has_no_say() -> None:
    torch.manual_seed(1)
    first = _augment(_images(), EVERYTHING)
    torch.manual_seed(2)
    assert torch.equal(_augment(_images(), EVERYTHING), first)


def test_a_picture_is_varied_the_same_whatever_its_neighbours_show() -> None:
    others = 255 - _images()
    others[3] = _images()[3]
    assert torch.equal(_augment(others, EVERYTHING)[3], _augment(_images(), EVERYTHING)[3])


def test_pictures_of_one_batch_are_varied_differently() -> None:
    same = _images(1).expand(8, -1, -1, -1)
    assert len(_augment(same, EVERYTHING).unique(dim=0)) > 1


# --- what a teacher sees ---


@pytest.mark.parametrize("changes", [{}, {"flip": 1.0, "pad_crop": 0.1, "erase": 1.0, "invert": 0.5}])
def test_beside_the_varied_pictures_are_the_same_without_distortion(changes: dict[str, float]) -> None:
    """Both halves vary alike in all but what `distort` does, which is to about half of the pictures."""
    settings = Augmentation(**{**NOTHING, "distort": 0.5, **changes})
    pixels = _images(64)
    both = augment(pixels, settings, BatchRng([0], 64), beside_undistorted=True)
    varied, plain = both.chunk(2, 3)
    assert torch.equal(varied, _augment(pixels, settings))
    same = torch.tensor([torch.equal(one, other) for one, other in zip(varied, plain, strict=True)])
    assert 16 < int(same.sum()) < 48
    if not changes:
        assert torch.equal(plain, pixels)


def test_without_distortion_both_halves_are_alike() -> None:
    varied, plain = augment(_images(), EVERYTHING, BatchRng([0], 6), beside_undistorted=True).chunk(2, 3)
    assert torch.equal(varied, plain)
