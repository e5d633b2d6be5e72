"""The contents of a data set and warnings about it, as lines for the user. Of files it knows the names only."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from model.data.dataset import Dataset, ImageSet, picture_digest
from model.data.scan import shown
from model.data.stream import StreamedPixels
from model.evaluation.evaluate import wilson_interval

_MOST_CLASSES, _MOST_NAMED, _MOST_SKIPPED = 20, 5, 100
_FEW_IMAGES = 100  # fewer than these leave the accuracy open by more than ten points either way


def describe(dataset: Dataset) -> list[str]:
    """Classes and counts; then skipped files; then a line that starts with "warning: " for each doubt."""
    return [
        _splits(dataset),
        *_classes(dataset),
        *_skipped(dataset),
        *dataset.notes,
        *_doubts(dataset),
    ]


def describe_judged(dataset: Dataset) -> list[str]:
    """The pictures to evaluate on, the skipped ones, and those that are also among the training pictures, if there are
    any.
    """
    split, images = dataset.judged
    held_out = " (held out of the training pictures)" if dataset.is_held_out and split == "validation" else ""
    classes = len(np.unique(images.labels))
    training = f"; {len(dataset.train)} training pictures" if len(dataset.train) else ""
    return [
        f"{len(images)} {split} pictures{held_out} of {classes} class{'es' * (classes != 1)}{training}",
        *_skipped(dataset),
        *dataset.notes,
        *_seen_in_training(dataset),
    ]


def _skipped(dataset: Dataset) -> Iterator[str]:
    for _, reason in dataset.skipped[:_MOST_SKIPPED]:
        yield f"skipped: {reason}"
    if len(dataset.skipped) > _MOST_SKIPPED:
        yield f"skipped: {len(dataset.skipped) - _MOST_SKIPPED} more like these."


def _splits(dataset: Dataset) -> str:
    held_out = " (held out of the training pictures)" if dataset.is_held_out else ""
    counts = [f"{len(dataset.train)} training pictures", f"{len(dataset.val)} validation pictures{held_out}"]
    if dataset.test is not None:
        counts.append(f"{len(dataset.test)} test pictures")
    return f"{len(dataset.labels)} classes: {', '.join(counts)}"


def _classes(dataset: Dataset) -> Iterator[str]:
    """Training + validation pictures of each class, or the extremes where there are many classes."""
    train, val = _counts(dataset.train, dataset), _counts(dataset.val, dataset)
    if len(dataset.labels) <= _MOST_CLASSES:
        each = (f"{label} {train[i]} + {val[i]}" for i, label in enumerate(dataset.labels))
        yield f"training + validation pictures: {', '.join(each)}"
    else:
        least, most = int(train.argmin()), int(train.argmax())
        yield (
            f"training pictures of a class: {train[least]} ({dataset.labels[least]}) to {train[most]} "
            f"({dataset.labels[most]}), in the middle {int(np.median(train))}"
        )


def _doubts(dataset: Dataset) -> Iterator[str]:
    train, val = _counts(dataset.train, dataset), _counts(dataset.val, dataset)
    for count, what in ((train == 1, "a single training picture"), (val == 0, "no validation picture")):
        if count.any():
            names = [dataset.labels[index] for index in np.flatnonzero(count)]
            which = f"{len(names)} classes have" if len(names) > 1 else "a class has"
            yield f"warning: {which} {what}: {_some(names)}."
    if 0 < len(dataset.val) < _FEW_IMAGES:
        count = len(dataset.val)
        low, high = wilson_interval(count // 2, count)
        yield (
            f"warning: {count} validation picture{'s are' if count > 1 else ' is'} few to judge by: where "
            f"{count // 2} are right, the accuracy lies between {low:.0%} and {high:.0%} (95 % interval)."
        )
    yield from _seen_in_training(dataset)


def _seen_in_training(dataset: Dataset) -> Iterator[str]:
    """Validation and test pictures that are, pixel for pixel, training pictures, too."""
    known = {digest: index for index, digest in enumerate(_digests(dataset.train))}
    for split, images in (("validation", dataset.val), ("test", dataset.test)):
        if images is None:
            continue
        twice = [(i, known[d]) for i, d in enumerate(_digests(images)) if d in known]
        if twice:
            some = _some([f"{_name(images, i)} = {_name(dataset.train, j)}" for i, j in twice])
            yield (
                f"warning: {len(twice)} of {len(images)} {split} pictures are training pictures, too, so that "
                f"the accuracy looks better than it is: {some}."
            )


def _digests(images: ImageSet) -> Iterable[bytes]:
    pixels = images.pixels
    return (
        pixels.digests
        if isinstance(pixels, StreamedPixels)
        else (picture_digest(pixels[i]) for i in range(len(images)))
    )


def _name(images: ImageSet, index: int) -> str:
    return shown(Path(images.paths[index])) if images.paths else f"number {index}"


def _counts(images: ImageSet, dataset: Dataset) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(images.labels, minlength=len(dataset.labels))


def _some(words: list[str], most: int = _MOST_NAMED) -> str:
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")
