"""RandAugment (arXiv 1909.13719) for a whole batch on its own device: its 14 operations, kornia's where it has them.

Knows nothing of recipes or labels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from model.data.batch_rng import BatchRng

_MAX_MAGNITUDE = 30.0
_MAX_DEGREES = 30.0
_MAX_SHEAR = 0.3  # tangent of the angle
_MAX_SHIFT = 0.45  # of the side

Operation = Callable[[Tensor, Tensor], Tensor]
"""Images float32 [n, C, H, W] in [0, 1] and strengths [n] in [-1, 1]: the images changed, perhaps beyond the range."""


def rand_augment(pixels: Tensor, layers: int, magnitude: float, rng: BatchRng) -> Tensor:
    """Apply `layers` random operations to each picture of uint8 [N, H, W, C]; the same shape and type comes back.

    magnitude: 0 to 30, the strength of every operation, as in the paper; its direction is random.
    """
    images = pixels.permute(0, 3, 1, 2).float() / 255  # N C H W
    operations = _operations()
    for _ in range(layers):
        which = rng.integers(0, len(operations) - 1)  # N
        strengths = (rng.uniform() < 0.5).float().mul(2).sub(1) * (magnitude / _MAX_MAGNITUDE)  # N
        changed = images.clone()
        for index in sorted(set(which.tolist())):
            members = which == index
            changed[members] = operations[index](images[members], strengths[members]).clamp(0, 1)
        images = changed
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _operations() -> tuple[Operation, ...]:
    """Imports kornia, which takes a quarter of a second, only for runs with RandAugment."""
    from kornia import enhance  # noqa: PLC0415

    def factor(strengths: Tensor) -> Tensor:
        return 1 + 0.9 * strengths

    def autocontrast(images: Tensor, _: Tensor) -> Tensor:
        plain = images.amax((2, 3), keepdim=True) == images.amin((2, 3), keepdim=True)  # n C 1 1
        return torch.where(plain, images, enhance.normalize_min_max(images))

    def saturation(images: Tensor, strengths: Tensor) -> Tensor:
        grey = images.mean(1, keepdim=True)
        return grey + (images - grey) * factor(strengths)[:, None, None, None]

    return (
        lambda images, strengths: images,
        autocontrast,
        lambda images, strengths: enhance.equalize(images),
        lambda images, strengths: enhance.solarize(images, 1 - strengths.abs()),
        lambda images, strengths: enhance.posterize(images, (8 - 4 * strengths.abs()).round().int()),
        lambda images, strengths: enhance.sharpness(images, factor(strengths)),
        lambda images, strengths: images * factor(strengths)[:, None, None, None],
        lambda images, strengths: enhance.adjust_contrast_with_mean_subtraction(images, factor(strengths)),
        saturation,
        _rotated,
        lambda images, strengths: _moved(images, across_down=strengths * _MAX_SHEAR),
        lambda images, strengths: _moved(images, down_across=strengths * _MAX_SHEAR),
        lambda images, strengths: _moved(images, across=strengths * _MAX_SHIFT),
        lambda images, strengths: _moved(images, down=strengths * _MAX_SHIFT),
    )


def _rotated(images: Tensor, strengths: Tensor) -> Tensor:
    angles = torch.deg2rad(strengths * _MAX_DEGREES)
    sines, cosines = angles.sin(), angles.cos()
    return _moved(images, across_down=-sines, down_across=sines, scale=cosines)


def _moved(
    images: Tensor,
    *,
    across: Tensor | None = None,
    down: Tensor | None = None,
    across_down: Tensor | None = None,
    down_across: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Sample the images through an affine map, edges repeated; shifts are shares of the side. All arguments are [n]."""
    zeros, ones = images.new_zeros(len(images)), images.new_ones(len(images))

    def entry(value: Tensor | None, otherwise: Tensor = zeros) -> Tensor:
        return otherwise if value is None else value

    theta = torch.stack(
        [
            torch.stack([entry(scale, ones), entry(across_down), 2 * entry(across)], dim=1),
            torch.stack([entry(down_across), entry(scale, ones), 2 * entry(down)], dim=1),
        ],
        dim=1,
    )  # n 2 3
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
