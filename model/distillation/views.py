"""Endless varied views of a bank of pictures, made in batches on the bank's device. Knows no teacher and no network.

A view is a random resized crop or the whole picture on a background, turned, seen at an angle, mirrored, with other
colors, blurred, noisy, partly hidden, and sometimes mixed with another view (mixup, arXiv 1710.09412; CutMix, arXiv
1905.04899).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from model.data.augment import rectangle
from model.distillation.bank import Bank

_GREY = (0.299, 0.587, 0.114)
_BLUR_SIGMAS = (0.7, 1.2, 2.0)  # pixels
_LOW_RESOLUTIONS = (0.25, 0.4)  # of the side
_UPRIGHT, _SLIGHTLY_TURNED = 0.4, 0.5  # shares of the views; the others are turned by right angles, and slightly


class Views(NamedTuple):
    """Pictures uint8 [N, 3, side, side], their label and that of what is mixed in int64 [N], the first one's share [N].

    A label is -1 where a picture has none.
    """

    pixels: Tensor
    labels: Tensor
    other_labels: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Variation:
    """How far views may differ from their picture. Shares are of the views; `smallest_crop` is a share of the area."""

    smallest_crop: float = 0.25
    wide: float = 0.2
    mixed: float = 0.2
    colored: float = 0.7
    noisy: float = 0.12
    blurred: float = 0.15
    hidden: float = 0.15


class ViewMaker:
    """Makes views of `side` pixels from a bank. One seed gives one sequence on one kind of device."""

    def __init__(self, bank: Bank, side: int, seed: int, variation: Variation | None = None) -> None:
        self._bank, self._side, self._variation = bank, side, variation or Variation()
        self._generator = torch.Generator(bank.pixels.device).manual_seed(seed)

    def take(self, rows: Tensor) -> Views:
        """A view of each of these pictures of the bank, mixed among neighbours: int64 [N] -> Views."""
        return self._mixed(self._colored(self._seen(rows)).clamp(0, 255), self._bank.labels[rows])

    # --- draws ---

    def _uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        drawn = torch.rand(shape, generator=self._generator, device=self._generator.device)
        return low + (high - low) * drawn

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._generator.device)

    def _chosen(self, count: int, share: float) -> Tensor:
        """Bool [N]."""
        return self._uniform(count) < share

    # --- geometry ---

    def _seen(self, rows: Tensor) -> Tensor:
        """float32 [N, 3, side, side] in 0..255: the pictures through a random camera."""
        count = len(rows)
        wide = self._chosen(count, self._variation.wide)
        places = self._places(wide, self._bank.aspects[rows])  # N side side 2
        outside = (places.abs() > 1).any(-1)[:, None]  # N 1 side side
        mirrored = (self._uniform(count) < 0.6)[:, None, None, None]
        folded = torch.where(mirrored, 1 - ((places - 1).remainder(4) - 2).abs(), places)  # reflected at the border
        sampled = functional.grid_sample(
            self._bank.pixels[rows].float(), folded, mode="bilinear", padding_mode="border", align_corners=False
        )  # N 4 side side
        before_background = (self._uniform(count) < torch.where(wide, 0.55, 0.3))[:, None, None, None]
        alpha = sampled[:, 3:] / 255
        alpha = torch.where(before_background & outside, 0.0, alpha)
        return sampled[:, :3] * alpha + self._backgrounds(count) * (1 - alpha)

    def _places(self, wide: Tensor, aspects: Tensor) -> Tensor:
        """Where each pixel of a view comes from: [N, side, side, 2], x and y in [-1, 1] over the picture."""
        count = len(wide)
        least = math.log(self._variation.smallest_crop)
        area = torch.where(
            wide, self._uniform(count, low=1.0, high=2.2), torch.exp(self._uniform(count, low=least, high=0.0))
        )
        keeps_shape = self._chosen(count, 0.6)  # the view is of the picture's own shape, or square
        ratio = torch.exp(self._uniform(count, low=-0.29, high=0.29)) / torch.where(keeps_shape, 1.0, aspects)
        across, down = (area * ratio).sqrt(), (area / ratio).sqrt()  # half the view's width and height
        across, down = (torch.where(wide, extent, extent.clamp(max=1.0)) for extent in (across, down))
        x, y = ((self._uniform(count) * 2 - 1) * (1 - extent).abs() for extent in (across, down))
        angle = self._angles(count)
        flip = torch.where(self._chosen(count, 0.5), -1.0, 1.0)
        line = (torch.arange(self._side, device=wide.device) + 0.5) / self._side * 2 - 1  # side
        v, u = torch.meshgrid(line, line, indexing="ij")
        slant = self._normal(2, count) * 0.06 * self._chosen(count, 0.4)
        depth = 1 + slant[0, :, None, None] * u + slant[1, :, None, None] * v  # N side side
        u = u * flip[:, None, None] / depth
        v = v / depth
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        # turned in the picture's own pixels, of which one is 1 / aspect as wide in x's unit as in y's
        shape = aspects[:, None, None]
        u, v = u * across[:, None, None] * shape, v * down[:, None, None]
        turned_x, turned_y = (cos * u - sin * v) / shape, sin * u + cos * v
        return torch.stack([turned_x + x[:, None, None], turned_y + y[:, None, None]], -1)

    def _angles(self, count: int) -> Tensor:
        """Radians [N]: upright, turned slightly, or by right angles."""
        kind, slight = self._uniform(count), self._normal(count) * math.radians(12)
        right = torch.randint(1, 4, (count,), generator=self._generator, device=kind.device) * (math.pi / 2)
        turned = torch.where(kind < _UPRIGHT + _SLIGHTLY_TURNED, slight, right + slight * 0.7)
        return torch.where(kind < _UPRIGHT, 0.0, turned)

    def _backgrounds(self, count: int) -> Tensor:
        """float32 [N, 3, side, side]: white, a color, a gradient, blotches, or part of a picture without label."""
        kind, side = self._uniform(count), self._side
        color = self._uniform(count, 3, 1, 1) * 255
        color = torch.where((kind < 0.35)[:, None, None, None], 255.0, color)
        backgrounds = color.expand(-1, -1, side, side).clone()
        for low, high, cells in ((0.6, 0.7, 2), (0.7, 0.76, 12)):
            rows = ((kind >= low) & (kind < high)).nonzero()[:, 0]
            blotches = self._uniform(len(rows), 3, cells, cells) * 255
            backgrounds[rows] = functional.interpolate(
                blotches, size=(side, side), mode="bilinear", align_corners=False
            )
        others = self._bank.backgrounds
        if len(others):
            rows = (kind >= 0.76).nonzero()[:, 0]
            picked = others[torch.randint(len(others), (len(rows),), generator=self._generator, device=kind.device)]
            pictures = self._bank.pixels[picked, :3].float()
            backgrounds[rows] = functional.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
        return backgrounds

    # --- colors ---

    def _colored(self, images: Tensor) -> Tensor:
        """Light, contrast, saturation, hue, noise, blur and a hidden rectangle on float32 [N, 3, side, side]."""
        count, device = len(images), images.device
        grey_of = torch.tensor(_GREY, device=device)
        plain = (~self._chosen(count, self._variation.colored))[:, None, None, None]

        def factor(low: float, high: float) -> Tensor:
            return torch.where(plain, 1.0, self._uniform(count, 1, 1, 1, low=low, high=high))

        images = images * factor(0.65, 1.4)
        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * factor(0.65, 1.45) + mean
        colorless = self._chosen(count, 0.05)[:, None, None, None]
        saturation = torch.where(colorless, 0.0, factor(0.3, 1.6))
        grey = (images * grey_of[:, None, None]).sum(1, keepdim=True)
        images = grey + (images - grey) * saturation
        images = images * torch.where(plain, 1.0, 1 + 0.06 * self._normal(count, 3, 1, 1))
        images = self._of_other_hue(images)
        noisy = self._chosen(count, self._variation.noisy).nonzero()[:, 0]
        strength = self._uniform(len(noisy), 1, 1, 1, low=3, high=20)
        images[noisy] += strength * self._normal(len(noisy), *images.shape[1:])
        return self._hidden(self._blurred(images))

    def _of_other_hue(self, images: Tensor) -> Tensor:
        """A tenth of the pictures with their colors turned around the grey axis by at most a radian."""
        rows = self._chosen(len(images), 0.1).nonzero()[:, 0]
        angle = self._uniform(len(rows), low=-1, high=1)
        cos, sin, third = angle.cos(), angle.sin() / math.sqrt(3), (1 - angle.cos()) / 3
        circle = torch.stack([cos + third, third - sin, third + sin], -1)  # the first row of a circulant matrix
        turn = torch.stack([circle.roll(shift, -1) for shift in range(3)], -2)  # n 3 3
        images[rows] = torch.einsum("nij,njhw->nihw", turn, images[rows])
        return images

    def _blurred(self, images: Tensor) -> Tensor:
        """Some pictures through a Gaussian, some through a smaller size."""
        kind, side = self._uniform(len(images)) / max(self._variation.blurred, 1e-9), images.shape[-1]
        kinds = len(_BLUR_SIGMAS) + len(_LOW_RESOLUTIONS)
        for index, sigma in enumerate(_BLUR_SIGMAS):
            rows = ((kind * kinds).floor() == index).nonzero()[:, 0]
            images[rows] = _gaussian(images[rows], sigma)
        for index, scale in enumerate(_LOW_RESOLUTIONS, start=len(_BLUR_SIGMAS)):
            rows = ((kind * kinds).floor() == index).nonzero()[:, 0]
            size = max(1, round(scale * side))
            small = functional.interpolate(images[rows], size=(size, size), mode="bilinear", antialias=True)
            images[rows] = functional.interpolate(small, size=(side, side), mode="bilinear")
        return images

    def _hidden(self, images: Tensor) -> Tensor:
        """A rectangle of one color, or of noise, over some pictures."""
        rows = self._chosen(len(images), self._variation.hidden).nonzero()[:, 0]
        side = images.shape[-1]
        tall, wide = (self._uniform(len(rows), 1, low=0.08, high=0.36) for _ in range(2))
        inside = rectangle(side, side, tall, wide, self._uniform(len(rows), 1), self._uniform(len(rows), 1))
        inside = inside.permute(0, 3, 1, 2)  # n 1 side side
        color = self._uniform(len(rows), 3, 1, 1) * 255
        noise = self._uniform(len(rows), 3, side, side) * 255
        filled = torch.where(self._chosen(len(rows), 0.5)[:, None, None, None], color, noise)
        images[rows] = torch.where(inside, filled, images[rows])
        return images

    # --- two pictures in one ---

    def _mixed(self, images: Tensor, labels: Tensor) -> Views:
        """Some pictures with a neighbour laid over them, or with a square of it inside."""
        count, side = images.shape[0], images.shape[-1]
        partner = (torch.arange(count, device=images.device) ^ 1).clamp(max=count - 1)
        kind = self._uniform(count) / max(self._variation.mixed, 1e-9)  # below 0.5 laid over, below 1 a square inside
        share = torch.where(kind < 0.5, self._uniform(count, low=0.5, high=1.0), 1.0)
        blend = share[:, None, None, None]
        blended = images * blend + images[partner] * (1 - blend)
        extent = self._uniform(count, 1, low=0.1, high=0.5).sqrt()
        inside = rectangle(side, side, extent, extent, self._uniform(count, 1), self._uniform(count, 1))
        inside = inside.permute(0, 3, 1, 2) & ((kind >= 0.5) & (kind < 1))[:, None, None, None]
        pixels = torch.where(inside, images[partner], blended)
        share = share * (1 - inside.flatten(1).float().mean(1))
        others = torch.where(share < 1, labels[partner], labels)
        return Views(pixels.round().to(torch.uint8), labels, others, share)


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    """float32 [n, C, H, W] through a Gaussian of so many pixels."""
    reach = math.ceil(2.5 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1, device=images.device) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)  # C 1 k
    padded = functional.pad(images, (reach, reach, reach, reach), mode="reflect")
    across = functional.conv2d(padded, kernel[:, :, None, :], groups=images.shape[1])
    return functional.conv2d(across, kernel[:, :, :, None], groups=images.shape[1])
