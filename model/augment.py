"""Random changes that leave the label alone, for a whole batch at once on its own device. Knows nothing of training."""

import torch
from torch import Generator, Tensor

from model.recipe import Augmentation


def augment(pixels: Tensor, augmentation: Augmentation, generator: Generator) -> Tensor:
    """Vary uint8 [N, H, W, C] in 0..255; the same shape and type comes back. Random numbers come from `generator`."""
    if augmentation.flip:
        pixels = torch.where(_chosen(pixels, augmentation.flip, generator), pixels.flip(2), pixels)
    if augmentation.shift_pixels:
        pixels = _shifted(pixels, augmentation.shift_pixels, generator)
    if augmentation.invert:
        pixels = torch.where(_chosen(pixels, augmentation.invert, generator), 255 - pixels, pixels)
    if augmentation.erase:
        pixels = _erased(pixels, augmentation.erase, generator)
    return pixels


def _chosen(pixels: Tensor, probability: float, generator: Generator) -> Tensor:
    chances = torch.rand(len(pixels), 1, 1, 1, device=pixels.device, generator=generator)
    return chances < probability  # N 1 1 1


def _shifted(pixels: Tensor, reach: int, generator: Generator) -> Tensor:
    count, height, width, _ = pixels.shape
    offsets = torch.randint(-reach, reach + 1, (2, count, 1), device=pixels.device, generator=generator)
    rows = (torch.arange(height, device=pixels.device) + offsets[0]).clamp(0, height - 1)  # N H
    columns = (torch.arange(width, device=pixels.device) + offsets[1]).clamp(0, width - 1)  # N W
    pictures = torch.arange(count, device=pixels.device)
    return pixels[pictures[:, None, None], rows[:, :, None], columns[:, None, :]]


def _erased(pixels: Tensor, probability: float, generator: Generator) -> Tensor:
    """A rectangle of 2 to 25 % of the area, its sides 0.3 to 3.3 to one."""
    count, height, width, _ = pixels.shape
    area, ratio, top, left = torch.rand(4, count, 1, device=pixels.device, generator=generator)  # N 1 each
    area, ratio = 0.02 + 0.23 * area, torch.exp((ratio * 2 - 1) * 1.2)
    inside = []
    for length, share, start in ((height, (area * ratio).sqrt(), top), (width, (area / ratio).sqrt(), left)):
        extent = share.clamp(max=1) * length
        distance = torch.arange(length, device=pixels.device) - start * (length - extent)  # N length
        inside.append((distance >= 0) & (distance < extent))
    rectangle = (inside[0][:, :, None] & inside[1][:, None, :])[..., None]  # N H W 1
    noise = torch.randint(0, 256, pixels.shape, device=pixels.device, dtype=torch.uint8, generator=generator)
    return torch.where(rectangle & _chosen(pixels, probability, generator), noise, pixels)
