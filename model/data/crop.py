"""Random resized crops: a part of each picture, stretched to its size. Knows nothing of files or training."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from model.data.batch_rng import BatchRng

_MOST_STRETCH = 4 / 3


def draw_views(smallest: float, rng: BatchRng) -> Tensor:
    """A part of each square picture (arXiv 1409.4842): left, top, right, bottom as shares of its side, float32 [n, 4].

    Areas are uniform from `smallest` to 1 of the picture's and sides 3/4 to 4/3 to one, cut to the picture where they
    are longer.
    """
    area, ratio, left, top = rng.uniform(4).unbind(1)  # n each
    area, ratio = smallest + (1 - smallest) * area, torch.exp((2 * ratio - 1) * math.log(_MOST_STRETCH))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = left * (1 - width), top * (1 - height)
    return torch.stack([left, top, left + width, top + height], dim=1)


def cropped(pixels: Tensor, views: Tensor) -> Tensor:
    """The views of uint8 [N, H, W, C], each resized to H and W; the same shape and type comes back."""
    left, top, right, bottom = views.unbind(1)
    none = torch.zeros_like(left)
    theta = torch.stack(
        [
            torch.stack([right - left, none, left + right - 1], dim=1),
            torch.stack([none, bottom - top, top + bottom - 1], dim=1),
        ],
        dim=1,
    )  # N 2 3, in coordinates from -1 to 1
    images = pixels.permute(0, 3, 1, 2).float()  # N C H W
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    sampled = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return sampled.round().to(torch.uint8).permute(0, 2, 3, 1)
