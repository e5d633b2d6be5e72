"""Pictures as a careless photographer takes them: turned, nearer or farther, off the middle, in other light, noisy.

For a whole batch at once on its own device. Knows nothing of labels, which all of this keeps.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from model.data.batch_rng import BatchRng

_MAX_DEGREES = 32.0
_MAX_TURN = 26.0  # degrees, of pictures that are turned alone
_SCALES = (0.55, 1.15)  # of the picture's content
_MAX_SHIFT = 0.12  # of the side
_DARKEST = 16  # what is not above this before a dark border is background
_BRIGHTEST_BACKGROUND = 110.0
_CONTRASTS = (0.4, 1.2)
_MAX_NOISE = 34.0  # standard deviation, in grey levels
_ALSO_VARIED = 0.35  # of the pictures that are turned by known angles
_EACH = 0.6  # how often each of the changes is made to a picture that is varied


def distort(pixels: Tensor, share: float, rng: BatchRng) -> Tensor:
    """Vary about a `share` of uint8 [N, H, W, C] in 0..255; the same shape and type comes back.

    What comes into sight from outside has the median color of the picture's border. A dark background gets any level
    up to 110; contrast falls to 0.4 at most, and noise has a standard deviation of 34 at most.
    """
    chosen = rng.uniform() < share  # N
    images = pixels.permute(0, 3, 1, 2).float()  # N C H W
    images = _seen_from_elsewhere(images, rng)
    images = _before_light(images, rng)
    images = _in_other_light(images, rng)
    varied = images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return torch.where(chosen[:, None, None, None], varied, pixels)


def turn(pixels: Tensor, share: float, rng: BatchRng) -> Tensor:
    """Turn about a `share` of uint8 [N, H, W, C] by at most 26 degrees either way; shape and type stay."""
    chosen = (rng.uniform() < share).float()  # N
    images = pixels.permute(0, 3, 1, 2).float()  # N C H W
    angle = (rng.uniform() * 2 - 1) * math.radians(_MAX_TURN) * chosen
    turned = _moved(images, angle, torch.ones_like(angle), torch.zeros_like(angle)[:, None].expand(-1, 2))
    varied = turned.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return torch.where(chosen[:, None, None, None] > 0, varied, pixels)


def turned_by_known_angles(pixels: Tensor, most: float, rng: BatchRng) -> tuple[Tensor, Tensor]:
    """Views of uint8 [N, H, W, C] whose things are upright, and by how many degrees each is turned: float32 [N].

    Counterclockwise, by at most so many degrees either way; about two in five are not. A third is also scaled, shifted,
    before another background, in other light and noisy. Half are mirrored before.
    """
    images = pixels.permute(0, 3, 1, 2).float()  # N C H W
    images = torch.where((rng.uniform() < 0.5)[:, None, None, None], images.flip(3), images)
    angle = (rng.uniform() * 2 - 1) * math.radians(most) * _some(rng)
    varied = (rng.uniform() < _ALSO_VARIED).float()
    scale = 1 + (_between(*_SCALES, rng) - 1) * _some(rng) * varied
    shift = (rng.uniform(2) * 2 - 1) * (2 * _MAX_SHIFT) * (_some(rng) * varied)[:, None]
    plain = _moved(images, angle, scale, shift, "bicubic" if rng.uniform()[0] < 0.5 else "bilinear")
    images = torch.where(varied[:, None, None, None] > 0, _in_other_light(_before_light(plain, rng), rng), plain)
    return images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1), angle.rad2deg()


def _some(rng: BatchRng) -> Tensor:
    """Which pictures a change is made to: float32 [N], 0 or 1."""
    return (rng.uniform() < _EACH).float()


def _between(low: float, high: float, rng: BatchRng) -> Tensor:
    return low + (high - low) * rng.uniform()


def _seen_from_elsewhere(images: Tensor, rng: BatchRng) -> Tensor:
    """Turned by at most 32 degrees, scaled to 0.55 to 1.15, shifted by at most 12 % of the side."""
    angle = (rng.uniform() * 2 - 1) * math.radians(_MAX_DEGREES) * _some(rng)
    scale = 1 + (_between(*_SCALES, rng) - 1) * _some(rng)
    shift = (rng.uniform(2) * 2 - 1) * (2 * _MAX_SHIFT) * _some(rng)[:, None]  # N 2, of which the side is 2
    return _moved(images, angle, scale, shift)


def _moved(images: Tensor, angle: Tensor, scale: Tensor, shift: Tensor, mode: str = "bilinear") -> Tensor:
    """Float [N, C, H, W], turned by [N] radians, scaled by [N], shifted by [N, 2] halves of the side."""
    cos, sin = angle.cos() / scale, angle.sin() / scale
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)  # N H W 2
    border = _border(images)
    inner = functional.grid_sample(images - border, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return inner + border


def _before_light(images: Tensor, rng: BatchRng) -> Tensor:
    """A dark background at any level up to 110."""
    level = (rng.uniform() * _BRIGHTEST_BACKGROUND * _some(rng))[:, None, None, None]
    dark = (_border(images).mean(1, keepdim=True) <= _DARKEST) & (images.amax(1, keepdim=True) <= _DARKEST)
    return torch.where(dark, level, images)


def _in_other_light(images: Tensor, rng: BatchRng) -> Tensor:
    """Contrast around the mean, and noise."""
    contrast = (1 + (_between(*_CONTRASTS, rng) - 1) * _some(rng))[:, None, None, None]
    mean = images.mean((1, 2, 3), keepdim=True)
    strength = (rng.uniform() * _MAX_NOISE * _some(rng))[:, None, None, None]
    return (images - mean) * contrast + mean + strength * rng.normal(*images.shape[1:])


def _border(images: Tensor) -> Tensor:
    """The median [N, C, 1, 1] of the outermost pixels."""
    rows, columns = images[:, :, (0, -1)].flatten(2), images[:, :, 1:-1, (0, -1)].flatten(2)
    return torch.cat([rows, columns], 2).median(2).values[:, :, None, None]
