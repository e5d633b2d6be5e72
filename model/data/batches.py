"""Training pictures, step by step: their order, augmentation and mixing. Knows nothing of networks.

Everything random is a function of (seed, epoch) or (seed, step) and of a picture's index in its batch. Where views
repeat, these are the epoch and the step that a view was first shown in; dropped branches alone are new every time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.data.augment import augment
from model.data.batch_rng import BatchRng
from model.data.crop import cropped, draw_views
from model.data.dataset import ImageSet
from model.data.mixing import mix
from model.data.stream import PartUnderWay, ReadAhead, StreamedPixels
from model.recipe import Recipe

_ORDER, _VARIATION, _VIEW, _BRANCHES = 0, 1, 2, 3  # the purposes of a seed


@dataclass(frozen=True)
class Part:
    """Some pictures of a batch. pixels: uint8 [n, H, W, C]; targets: probabilities [n, K].

    for_teacher: as pixels, what a teacher sees, without `distort` where the recipe says so.
    branch_draws: random numbers in [0, 1) for every residual branch, [n, blocks, 2], where branches are dropped.
    """

    pixels: Tensor
    for_teacher: Tensor
    targets: Tensor
    branch_draws: Tensor | None


class Batches:
    """The training pictures in batches, by a recipe."""

    def __init__(
        self,
        images: ImageSet,
        recipe: Recipe,
        num_classes: int,
        num_blocks: int,
        device: torch.device,
    ) -> None:
        self._images, self._recipe, self._device = images, recipe, device
        self._num_classes, self._num_blocks = num_classes, num_blocks
        self.per_epoch = -(-len(images) // recipe.batch_size)
        self._order: tuple[int, NDArray[np.intp]] = (-1, np.empty(0, dtype=np.intp))
        self._ahead = ReadAhead(images.pixels) if isinstance(images.pixels, StreamedPixels) else None

    def rows(self, step: int) -> NDArray[np.intp]:
        """Indices of the pictures in a step's batch. Every epoch has each picture once, in its view's order."""
        epoch, index = divmod(self._first_shown(step), self.per_epoch)
        if self._order[0] != epoch:
            self._order = (
                epoch,
                np.random.default_rng([self._recipe.seed, _ORDER, epoch]).permutation(len(self._images)),
            )
        return self._order[1][index * self._recipe.batch_size : (index + 1) * self._recipe.batch_size]

    def places_among_views(self, step: int, places: slice) -> slice:
        """Where these pictures of a step's batch stand among those of all views, one view after the other."""
        view, index = divmod(self._first_shown(step), self.per_epoch)
        first = view * len(self._images) + index * self._recipe.batch_size
        return slice(first + places.start, first + places.stop)

    def part(self, step: int, places: slice) -> Part:
        """The pictures at these indices of a step's batch, ready for the network."""
        recipe, rows, first_shown = self._recipe, self.rows(step), self._first_shown(step)
        rng = BatchRng([recipe.seed, _VARIATION, first_shown], len(rows), places, self._device)
        pixels = self._pixels(step, places)
        labels = torch.from_numpy(self._images.labels[rows[places]]).to(self._device)
        channels = pixels.shape[3]
        pixels = augment(pixels, recipe, rng, beside_undistorted=recipe.teacher_undistorted)
        targets = functional.one_hot(labels, self._num_classes).float()
        pixels, targets = mix(pixels, targets, recipe.mixup, recipe.cutmix, rng)
        if step != first_shown:
            rng = BatchRng([recipe.seed, _BRANCHES, step], len(rows), places, self._device)
        pixels, for_teacher = pixels[..., :channels].contiguous(), pixels[..., -channels:].contiguous()
        draws = rng.uniform(self._num_blocks, 2) if recipe.stochastic_depth else None
        return Part(pixels, for_teacher, targets, draws)

    def close(self) -> None:
        """Decode nothing more for steps to come."""
        if self._ahead is not None:
            self._ahead.close()

    def _first_shown(self, step: int) -> int:
        """The step that a step repeats, or itself."""
        return step % (self._recipe.views * self.per_epoch) if self._recipe.views else step

    def _pixels(self, step: int, places: slice) -> Tensor:
        """uint8 [n, H, W, C], cropped where the recipe says so. A stream's are cut from its files' own pixels."""
        if self._ahead is None:
            pixels = torch.from_numpy(self._images.pixels[self.rows(step)[places]]).to(self._device)
            views = self._views(step, places)
            return pixels if views is None else cropped(pixels, views.to(self._device))
        part = self._begin(self._ahead, step, places)
        if step + 1 < self._recipe.epochs * self.per_epoch:
            self._begin(self._ahead, step + 1, places)
        return torch.from_numpy(self._ahead.collect(part)).to(self._device)

    def _begin(self, ahead: ReadAhead, step: int, places: slice) -> PartUnderWay:
        views = self._views(step, places)
        shares = None if views is None else list(map(tuple, views.tolist()))
        return ahead.begin(step, places.start, self.rows(step)[places], shares)

    def _views(self, step: int, places: slice) -> Tensor | None:
        """float32 [n, 4]: apart from all other chance, so that they are known before the pictures are."""
        if not self._recipe.crop_scale:
            return None
        rng = BatchRng([self._recipe.seed, _VIEW, self._first_shown(step)], len(self.rows(step)), places)
        return draw_views(self._recipe.crop_scale, rng)
