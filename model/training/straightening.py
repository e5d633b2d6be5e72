"""Learning a Tilt: by how much a thing is turned, from pictures whose things are upright, turned by known angles.

A spatial transformer (arXiv 1506.02025) that is taught apart from the network behind it: the angle itself is the label.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model import tilt
from model.data.batch_rng import BatchRng
from model.data.dataset import ImageSet, PixelRows
from model.data.distort import turned_by_known_angles
from model.evaluation.evaluate import Logits
from model.evaluation.robustness import as_served
from model.preprocess import Pixels
from model.shifts.geometry import turned
from model.spec import ModelSpec, Tilt

JUDGED_AT = (0, 10, 20, 30, 45)
"""Degrees, either way."""
_ORDER, _VIEWS = 0, 1  # what random numbers are for
_UNIT = 20.0  # degrees that the network's output is counted in while it learns
_KINK = 0.1  # of the loss, in that unit: below it errors count by their square
_WEIGHT_DECAY = 0.01
_AT_ONCE = 512

LogitsOf = Callable[[Pixels], Logits]
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class TiltOptions:
    """How a Tilt is learned. beyond, most: degrees. side: of the grey square that it sees. hidden: units of layers.

    epochs: how often every picture is turned anew. Views are dearer than learning from them, so that those of the last
    `kept` epochs are all learned from in each.
    """

    beyond: float = 12.0
    most: float = 45.0
    side: int = 14
    hidden: tuple[int, ...] = (128, 32)
    epochs: int = 30
    kept: int = 4
    batch_size: int = 512
    learning_rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Judged:
    """Pictures turned by `degrees` to either side: what the Tilt says of them."""

    degrees: int
    error: float  # in degrees, the mean
    error_95: float  # 95 % of the pictures are off by no more
    turned_back: float  # share of the pictures


def without_tilt(spec: ModelSpec) -> ModelSpec:
    """The spec of a classifier that takes things as they stand."""
    return with_tilt(spec, None)


def with_tilt(spec: ModelSpec, found: Tilt | None) -> ModelSpec:
    """The spec of a classifier that turns things back by it. Raises ValueError where its fit frames no thing."""
    fit = type(spec.fit).model_validate({**dict(spec.fit), "tilt": found})
    return spec.model_copy(update={"fit": fit})


def fit_tilt(
    images: ImageSet, spec: ModelSpec, options: TiltOptions, progress: Step = lambda done, total: None
) -> Tilt:
    """Learn it from training pictures, whose things stand upright. The same seed gives the same Tilt on one machine."""
    torch.manual_seed(options.seed)
    network = _network(options)
    steps = sum(
        -(-len(images) * min(epoch, options.kept) // options.batch_size) for epoch in range(1, options.epochs + 1)
    )
    optimizer = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, total_steps=steps)
    for done, (values, degrees) in enumerate(_batches(images.pixels, spec, options), start=1):
        loss = functional.smooth_l1_loss(network(values)[:, 0], degrees / _UNIT, beta=_KINK)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress(done, steps)
    return _packed(network, options.beyond)


def judge(found: Tilt, images: ImageSet, spec: ModelSpec, seed: int = 0) -> list[Judged]:
    """What a Tilt says of pictures that it did not learn from, as they are and turned."""
    return [_judged(found, images.pixels, spec, degrees, seed) for degrees in JUDGED_AT]


def top1_turned(logits_of: LogitsOf, images: ImageSet, spec: ModelSpec, degrees: int, seed: int = 0) -> float:
    """Top-1, in [0, 1], of pictures that are turned to either side, as the service with this spec would see them."""
    right = 0
    for start, (rows, _) in zip(
        range(0, len(images), _AT_ONCE), turned_rows(images.pixels, degrees, seed), strict=True
    ):
        found = logits_of(as_served(rows, spec)).argmax(axis=1)
        right += int((found == images.labels[start : start + _AT_ONCE]).sum())
    return right / len(images)


def turned_rows(pixels: PixelRows, degrees: int, seed: int = 0) -> Iterator[tuple[Pixels, NDArray[np.float64]]]:
    """All pictures, some at a time, each turned to a random side; and by how many degrees, counterclockwise."""
    for start in range(0, len(pixels), _AT_ONCE):
        rows = pixels[start : start + _AT_ONCE]
        angles = degrees * np.random.default_rng([seed, degrees, start]).choice([-1.0, 1.0], len(rows))
        yield (turned(rows, angles) if degrees else rows), angles


def _judged(found: Tilt, pixels: PixelRows, spec: ModelSpec, degrees: int, seed: int) -> Judged:
    said, true = [], []
    for rows, angles in turned_rows(pixels, degrees, seed):
        said.append(tilt.degrees_of(as_served(rows, without_tilt(spec)), found))
        true.append(angles)
    estimates = np.concatenate(said)
    errors = np.abs(estimates - np.concatenate(true))
    is_turned_back = np.abs(estimates) > found.beyond
    return Judged(degrees, float(errors.mean()), float(np.quantile(errors, 0.95)), float(is_turned_back.mean()))


def _network(options: TiltOptions) -> nn.Sequential:
    sizes = (options.side**2, *options.hidden)
    hidden = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], 1))


def _batches(pixels: PixelRows, spec: ModelSpec, options: TiltOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """What the network sees of views, float32 [n, side * side] in [0, 1], and their angles in degrees [n]."""
    kept: deque[tuple[Tensor, Tensor]] = deque(maxlen=options.kept)
    for epoch in range(options.epochs):
        kept.append(_views(pixels, without_tilt(spec), options, epoch))
        values, degrees = (torch.cat(parts) for parts in zip(*kept, strict=True))
        order = torch.from_numpy(np.random.default_rng([options.seed, _ORDER, epoch]).permutation(len(values)))
        for start in range(0, len(order), options.batch_size):
            rows = order[start : start + options.batch_size]
            yield values[rows].float() / 255, degrees[rows]


def _views(pixels: PixelRows, plain: ModelSpec, options: TiltOptions, epoch: int) -> tuple[Tensor, Tensor]:
    """Every picture once, turned anew: uint8 [N, side * side], and by how many degrees [N]."""
    values, angles = [], []
    for start in range(0, len(pixels), _AT_ONCE):
        given = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _AT_ONCE]))
        rng = BatchRng([options.seed, _VIEWS, epoch, start], len(given))
        views, degrees = turned_by_known_angles(given, options.most, rng)
        small = tilt.small(as_served(views.numpy(), plain), options.side)
        values.append(torch.from_numpy(small.round().astype(np.uint8)).flatten(1))
        angles.append(degrees)
    return torch.cat(values), torch.cat(angles)


def _packed(network: nn.Sequential, beyond: float) -> Tilt:
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    layers = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear]
    matrix, bias = (part * np.float32(_UNIT) for part in layers[-1])
    return tilt.packed((*layers[:-1], (matrix, bias)), beyond)
