"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899): two pictures and their labels become one.

A picture's partner is its neighbour in the batch (first with second, third with fourth), whose order is random anyway;
so a batch that is cut at even indices mixes as the whole batch does.
"""

import torch
from torch import Tensor

from model.data.augment import rectangle
from model.data.batch_rng import BatchRng


def mix(pixels: Tensor, targets: Tensor, mixup: float, cutmix: float, rng: BatchRng) -> tuple[Tensor, Tensor]:
    """Mix uint8 [N, H, W, C] and the probabilities [N, K] that belong to it; the same shapes and types come back.

    `mixup` and `cutmix` are the alpha of the Beta distribution that the shares come from; 0 turns one off. With both
    on, each picture gets either at even chances.
    """
    if not (mixup or cutmix):
        return pixels, targets
    count = len(pixels)
    partner = (torch.arange(count, device=pixels.device) ^ 1).clamp(max=max(0, count - 1))
    other_pixels, other_targets = pixels[partner], targets[partner]
    cut = rng.uniform() < (0.5 if mixup and cutmix else float(cutmix > 0))  # N
    blended, blend_share = _blended(pixels, other_pixels, mixup, rng)
    pasted, paste_share = _pasted(pixels, other_pixels, cutmix, rng)
    share = torch.where(cut, paste_share, blend_share)[:, None]  # N 1
    return torch.where(cut[:, None, None, None], pasted, blended), targets * share + other_targets * (1 - share)


def _blended(pixels: Tensor, other: Tensor, alpha: float, rng: BatchRng) -> tuple[Tensor, Tensor]:
    """Weighted means of two pictures, and the weight [N] of the first."""
    if not alpha:
        return pixels, pixels.new_ones(len(pixels), dtype=torch.float32)
    share = rng.beta(alpha)
    weight = share[:, None, None, None]
    return (pixels * weight + other * (1 - weight)).round().to(torch.uint8), share


def _pasted(pixels: Tensor, other: Tensor, alpha: float, rng: BatchRng) -> tuple[Tensor, Tensor]:
    """A rectangle of the second picture over the first, and the visible share [N] of the first."""
    if not alpha:
        return pixels, pixels.new_ones(len(pixels), dtype=torch.float32)
    side = (1 - rng.beta(alpha)).sqrt()[:, None]  # N 1
    top, left = rng.uniform(2, 1).unbind(1)  # N 1 each
    inside = rectangle(pixels.shape[1], pixels.shape[2], side, side, top, left)
    return torch.where(inside, other, pixels), 1 - inside.flatten(1).float().mean(1)
