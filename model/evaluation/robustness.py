"""A classifier on changed and on unfamiliar pictures: what is measured beyond its accuracy.

Every changed picture is seen as the service would see it: one whose border has become light is inverted where the
classifier's fit says so. Knows any function from pixels to logits; draws and prints nothing.
"""

import zlib
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from model.data.dataset import ImageSet, PixelRows, evenly_spaced
from model.evaluation.confidence import energies
from model.evaluation.evaluate import Logits
from model.evaluation.risk import auroc
from model.preprocess import Pixels, to_square
from model.shifts.corruptions import CORRUPTIONS, STRENGTHS, corrupted
from model.shifts.geometry import GEOMETRY
from model.shifts.unfamiliar import UNFAMILIAR
from model.spec import ModelSpec

_AT_ONCE = 64
Shift = Callable[[Pixels, np.random.Generator], Pixels]
LogitsOf = Callable[[Pixels], Logits]


class Robustness(BaseModel):
    """Top-1 in [0, 1] of `num_pictures` pictures as they are, under each corruption at each strength, and moved."""

    model_config = ConfigDict(frozen=True)

    num_pictures: int
    seed: int
    clean: float
    corruptions: Mapping[str, tuple[float, ...]]
    geometry: Mapping[str, float]

    @property
    def mean_corrupted(self) -> float:
        """The mean over all corruptions and strengths."""
        return float(np.mean(list(self.corruptions.values())))


class Unfamiliar(BaseModel):
    """How well the log-sum-exp of the logits tells the data's pictures from these, of no class; 0.5 is chance."""

    model_config = ConfigDict(frozen=True)

    num_pictures: int
    auroc: float


def evenly(images: ImageSet, most: int) -> ImageSet:
    """At most so many pictures, evenly spaced."""
    if len(images) <= most:
        return images
    rows = evenly_spaced(len(images), most)
    return ImageSet(images.pixels[rows], images.labels[rows], tuple(images.paths[row] for row in rows if images.paths))


def measure_robustness(
    logits_of: LogitsOf,
    images: ImageSet,
    spec: ModelSpec,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Robustness:
    """Run the pictures, at least one, under every change. The same seed gives the same changes."""
    total = len(CORRUPTIONS) * len(STRENGTHS) + len(GEOMETRY) + 1
    done = 0

    def top1(name: str, shift: Shift) -> float:
        nonlocal done
        logits = _shifted_logits(logits_of, images.pixels, spec, shift, (seed, zlib.crc32(name.encode())))
        done += 1
        progress(done, total)
        return float((logits.argmax(axis=1) == images.labels).mean())

    return Robustness(
        num_pictures=len(images),
        seed=seed,
        clean=top1("clean", lambda pixels, _: pixels),
        corruptions={
            name: tuple(top1(f"{name} {strength}", partial(_corrupted, name, strength)) for strength in STRENGTHS)
            for name in CORRUPTIONS
        },
        geometry={name: top1(name, shift) for name, shift in GEOMETRY.items()},
    )


def measure_unfamiliar(
    logits_of: LogitsOf,
    logits: NDArray[np.float64],
    spec: ModelSpec,
    pictures: Mapping[str, Pixels],
    *,
    num_generated: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Unfamiliar]:
    """For generated pictures of each kind, and for `pictures` by name. logits: [N, K] of the data's pictures."""
    shape = (num_generated, spec.image_size, spec.image_size, spec.channels)
    generated = {
        name: make(np.random.default_rng([seed, index]), shape) for index, (name, make) in enumerate(UNFAMILIAR.items())
    }
    familiar = energies(logits)
    found: dict[str, Unfamiliar] = {}
    kinds = {**generated, **pictures}
    for name, pixels in kinds.items():
        others = _shifted_logits(logits_of, pixels, spec, lambda pixels, _: pixels, (seed,))
        found[name] = Unfamiliar(num_pictures=len(pixels), auroc=auroc(familiar, energies(others)))
        progress(len(found), len(kinds))
    return found


def _corrupted(name: str, strength: int, pixels: Pixels, generator: np.random.Generator) -> Pixels:
    return corrupted(pixels, name, strength, generator)


def _shifted_logits(
    logits_of: LogitsOf, pixels: PixelRows, spec: ModelSpec, shift: Shift, key: tuple[int, ...]
) -> NDArray[np.float64]:
    """[N, K], in batches whose random numbers are functions of the key and the batch's place."""
    batches = []
    for start in range(0, len(pixels), _AT_ONCE):
        changed = shift(pixels[start : start + _AT_ONCE], np.random.default_rng([*key, start]))
        batches.append(np.asarray(logits_of(as_served(changed, spec)), dtype=np.float64))
    return np.concatenate(batches)


def as_served(pixels: Pixels, spec: ModelSpec) -> Pixels:
    """Squares, changed in any way, as the service would make them of pictures of that size."""
    if spec.fit.background == "any":
        return pixels
    whole = spec.fit.model_copy(update={"mode": "stretch"})
    return np.stack([to_square(picture, spec.image_size, whole, spec.interpolation) for picture in pixels])
