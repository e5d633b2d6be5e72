"""DATA as embeddings, with those of an earlier head's pictures where its classes are added to. Knows no heads."""

import time
from pathlib import Path

import numpy as np

from model.data.layout import read_labels
from model.data.pillow_warnings import collected_warnings
from model.errors import DataError
from model.heads.embedding import Embedded, embed
from model.heads.pictures import Listing, listing
from model.heads.start import FrozenStart
from model.heads.stored import Stored
from model.network.run_folder import EMBEDDINGS
from model.recipe import Recipe
from model.training.options import TrainOptions
from model.training.pace import duration
from model.training.run_config import TrainCallbacks

_TOLD_AFTER, _LEAST_TOLD_S = 3, 5.0  # batches; seconds


def gather(
    start: FrozenStart, options: TrainOptions, recipe: Recipe, callbacks: TrainCallbacks
) -> tuple[Stored, Listing]:
    """What the network says of DATA's pictures, and which these are. Raises DataError."""
    names = read_labels(options.labels) if options.labels is not None else None
    with collected_warnings() as warnings:
        listed = listing(options.data, start.seen, labels=names, val_fraction=recipe.val_fraction, seed=recipe.seed)
        cache, pace = start.cache(), _EmbeddingPace(callbacks)
        train = embed(listed.train, start.trunk, cache, listed.skipped, pace.progress)
        val = embed(listed.val, start.trunk, cache, listed.skipped, pace.progress)
    listed.notes += warnings.lines()
    return Stored(start.key, listed.labels, train, val, listed.is_held_out), listed


def merged(earlier: Stored, new: Stored) -> Stored:
    """The pictures of both, under the earlier labels and then the new ones; a picture of both counts as the new one."""
    labels = (*earlier.labels, *(label for label in new.labels if label not in earlier.labels))
    places = np.array([labels.index(label) for label in new.labels], dtype=np.int64)
    again = {*new.train.digests, *new.val.digests}
    train = _joined(_without(earlier.train, again), _relabelled(new.train, places))
    val = _joined(_without(earlier.val, again), _relabelled(new.val, places))
    return Stored(new.key, labels, train, val, earlier.is_held_out or new.is_held_out)


def expect_classes(whole: Stored, listed: Listing, folder: Path) -> None:
    """Raises DataError for fewer than two classes, one without a picture, or no picture to judge by."""
    if len(whole.labels) < 2:
        raise DataError(
            f"{folder} has {len(whole.labels)} class; expected at least 2, or --add with --init, the checkpoint of an "
            f"earlier --freeze, which has {EMBEDDINGS}."
        )
    counts = np.bincount(whole.train.labels, minlength=len(whole.labels))
    if not counts.all():
        label = whole.labels[int(counts.argmin())]
        reasons = [reason for path, reason in listed.skipped if label in path.parts]
        raise DataError(" ".join([f"{folder} has no readable training picture of {label!r}.", *reasons[:1]]))
    if not len(whole.val):
        raise DataError(f"{folder} has no readable picture to judge a head by; expected two of a class, or more.")


def _joined(first: Embedded, second: Embedded) -> Embedded:
    return Embedded(
        np.concatenate([first.vectors, second.vectors]),
        np.concatenate([first.labels, second.labels]),
        (*first.digests, *second.digests),
    )


def _without(embedded: Embedded, digests: set[bytes]) -> Embedded:
    kept = [row for row, digest in enumerate(embedded.digests) if digest not in digests]
    return Embedded(embedded.vectors[kept], embedded.labels[kept], tuple(embedded.digests[row] for row in kept))


def _relabelled(embedded: Embedded, places: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Embedded:
    return Embedded(embedded.vectors, places[embedded.labels], embedded.digests)


class _EmbeddingPace:
    """Passes progress on, and after a few batches a line on how long the rest will take."""

    def __init__(self, callbacks: TrainCallbacks) -> None:
        self._callbacks, self._began, self._calls = callbacks, time.monotonic(), 0

    def progress(self, done: int, total: int) -> None:
        """`done` of `total` pictures that the network had not seen before."""
        self._callbacks.on_reading(done, total)
        self._calls += 1
        if self._calls == _TOLD_AFTER:
            per_s = done / max(time.monotonic() - self._began, 1e-9)
            left_s = (total - done) / per_s
            if left_s > _LEAST_TOLD_S:
                self._callbacks.on_note(f"{total} pictures to embed, {per_s:.0f} a second: {duration(left_s)} more")
