"""Random changes that keep the label, for a whole batch at once on its own device. Knows nothing of training."""

import torch
from torch import Tensor

from model.data.batch_rng import BatchRng
from model.data.distort import distort, turn
from model.data.randaugment import rand_augment
from model.recipe import Augmentation


def augment(pixels: Tensor, augmentation: Augmentation, rng: BatchRng, *, beside_undistorted: bool = False) -> Tensor:
    """Vary uint8 [N, H, W, C] in 0..255; the same shape and type comes back.

    beside_undistorted: what comes back is [N, H, W, 2C]; its second half is all that but for `distort` and `turn`.
    """
    if augmentation.flip:
        pixels = torch.where(_chosen(augmentation.flip, rng), pixels.flip(2), pixels)
    if augmentation.pad_crop:
        pixels = _shifted(pixels, augmentation.pad_crop, rng)
    if augmentation.randaugment_layers:
        pixels = rand_augment(pixels, augmentation.randaugment_layers, augmentation.randaugment_magnitude, rng)
    copies, undistorted = 1, pixels
    if augmentation.distort:
        pixels = distort(pixels, augmentation.distort, rng)
    if augmentation.turn:
        pixels = turn(pixels, augmentation.turn, rng)
    if beside_undistorted:
        copies, pixels = 2, torch.cat([pixels, undistorted], 3)
    if augmentation.invert:
        pixels = torch.where(_chosen(augmentation.invert, rng), 255 - pixels, pixels)
    if augmentation.erase:
        pixels = _erased(pixels, augmentation.erase, copies, rng)
    return pixels


def _chosen(probability: float, rng: BatchRng) -> Tensor:
    return rng.uniform(1, 1, 1) < probability  # N 1 1 1


def _shifted(pixels: Tensor, share: float, rng: BatchRng) -> Tensor:
    """Pad with the edge's own pixels and crop at random: a shift, each way by at most `share` of the side."""
    count, height, width, channels = pixels.shape
    down, across = (
        rng.integers(-round(share * side), round(share * side), 1)  # N 1
        for side in (height, width)
    )
    rows = (torch.arange(height, device=pixels.device) + down).clamp(0, height - 1)  # N H
    columns = (torch.arange(width, device=pixels.device) + across).clamp(0, width - 1)  # N W
    indices = (rows * width)[:, :, None] + columns[:, None, :]  # N H W
    flat = indices.reshape(count, height * width, 1).expand(-1, -1, channels)  # N H*W C
    return pixels.reshape(count, height * width, channels).gather(1, flat).reshape(pixels.shape)


def _erased(pixels: Tensor, probability: float, copies: int, rng: BatchRng) -> Tensor:
    """Fill a rectangle of 2 to 25 % of the area, its sides 0.3 to 3.3 to one, with noise, the same in all copies."""
    _, height, width, channels = pixels.shape
    area, ratio, top, left = rng.uniform(4, 1).unbind(1)  # N 1 each
    area, ratio = 0.02 + 0.23 * area, torch.exp((ratio * 2 - 1) * 1.2)
    inside = rectangle(height, width, (area * ratio).sqrt(), (area / ratio).sqrt(), top, left)
    noise = rng.noise(height, width, channels // copies).repeat(1, 1, 1, copies)
    return torch.where(inside & _chosen(probability, rng), noise, pixels)


def rectangle(height: int, width: int, tall: Tensor, wide: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Mask [N, H, W, 1] of a rectangle inside each picture.

    All but the first two are float [N, 1] in [0, 1]: the sides as shares of the picture's, and the rectangle's start as
    a share of the remaining space.
    """
    inside = []
    for length, share, start in ((height, tall, top), (width, wide, left)):
        extent = share.clamp(max=1) * length
        distance = torch.arange(length, device=share.device) - start * (length - extent)  # N length
        inside.append((distance >= 0) & (distance < extent))
    return (inside[0][:, :, None] & inside[1][:, None, :])[..., None]  # N H W 1
