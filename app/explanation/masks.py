"""Pictures with parts of them hidden, and what each part carries by what the model says of them all.

A picture is uint8 [S, P*P*C]: S patches, in a grid of sqrt(S) rows. Masked ones are made a few at a time, as all of
them together may take tens of megabytes. Knows nothing of the model.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.engine.runners import Patches

Values = NDArray[np.float64]
_MASKS_A_PATCH = 4  # of RISE
_FEWEST_MASKS, _MOST_MASKS = 128, 512
_SHOWN = 0.5  # how probable it is that a cell of such a mask is shown
_PATCHES_A_CELL = 2  # in each direction
_SEED = 0  # the same picture gets the same answer


class Masks(Protocol):
    """One way to hide parts of one picture."""

    @property
    def count(self) -> int:
        """How many masked pictures there are."""
        ...

    def masked(self, start: int, stop: int) -> Patches:
        """Those from `start` to before `stop`, as uint8 [n, S, P*P*C]."""
        ...

    def values(self, whole: float, scores: Values) -> Values:
        """What each patch carries, float64 [S], by the score of the whole picture and float64 [count] of the others."""
        ...


class Occlusion:
    """Each patch hidden by itself: it carries by how much the score falls without it.

    Zeiler and Fergus, arXiv 1311.2901, section 4.2, with the model's own patches for windows.
    """

    def __init__(self, patches: Patches, baseline: Patches) -> None:
        self._patches, self._baseline = patches, baseline
        self.count = occlusions(len(patches))

    def masked(self, start: int, stop: int) -> Patches:
        """Pictures without the patches from `start` to before `stop`, each without one."""
        pictures = np.repeat(self._patches[np.newaxis], stop - start, axis=0)  # n S P*P*C
        for row, hidden in enumerate(range(start, stop)):
            pictures[row, hidden] = self._baseline[hidden]
        return pictures

    def values(self, whole: float, scores: Values) -> Values:
        """By how much each of the scores is below that of the whole picture."""
        return whole - scores


class Rise:
    """Random parts hidden, a soft half of the picture each time: a patch carries by how much its being shown raises it.

    Petsiuk, Das and Saenko, arXiv 1806.07421, section 3.2, with a mask's values constant within a patch, and with the
    mean score taken off, so that 0 is a patch that makes no difference.
    """

    def __init__(self, patches: Patches, baseline: Patches) -> None:
        self._patches, self._baseline = patches.astype(np.float32), baseline.astype(np.float32)
        side = math.isqrt(len(patches))
        self.count = random_masks(len(patches))
        self._masks = _soft_masks(self.count, side, np.random.default_rng(_SEED)).reshape(self.count, -1)  # N S

    def masked(self, start: int, stop: int) -> Patches:
        """The pictures under the masks from `start` to before `stop`."""
        masks = self._masks[start:stop, :, np.newaxis]  # n S 1
        return (self._baseline + masks * (self._patches - self._baseline)).round().astype(np.uint8)

    def values(self, whole: float, scores: Values) -> Values:
        """The mean score where the patch is shown, weighted by how much of it is, less the mean of all."""
        shown: Values = self._masks.astype(np.float64)
        means: Values = (scores @ shown) / shown.sum(axis=0) - scores.mean()
        return means


def occlusions(num_patches: int) -> int:
    """How many pictures occlusion masks."""
    return num_patches


def random_masks(num_patches: int) -> int:
    """How many RISE does: more for more patches, as each is to be seen often enough."""
    return min(_MOST_MASKS, max(_FEWEST_MASKS, _MASKS_A_PATCH * num_patches))


def _soft_masks(count: int, side: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """`count` masks [side, side] in [0, 1]: coarse cells, each shown or not, enlarged bilinearly at a random offset."""
    cells = max(1, math.ceil(side / _PATCHES_A_CELL))
    coarse = (generator.random((count, cells + 2, cells + 2)) < _SHOWN).astype(np.float32)
    offsets = generator.random((count, 2))
    places = np.arange(side) / _PATCHES_A_CELL
    for axis in (0, 1):
        at = places + offsets[:, axis, np.newaxis]  # N side
        low = np.floor(at).astype(int)
        share = (at - low).astype(np.float32)[:, :, np.newaxis]  # N side 1
        rows = np.arange(count)[:, np.newaxis]
        coarse = ((1 - share) * coarse[rows, low] + share * coarse[rows, low + 1]).swapaxes(1, 2)  # the other axis next
    masks: NDArray[np.float32] = coarse
    return masks


class Method(NamedTuple):
    """count: how many masked pictures there are of one with so many patches; masks: of a picture and its baseline."""

    count: Callable[[int], int]
    masks: Callable[[Patches, Patches], Masks]


METHODS: Mapping[str, Method] = {"occlusion": Method(occlusions, Occlusion), "rise": Method(random_masks, Rise)}
