"""What is told of pictures and choices before a head is fitted, as rows and lines. Knows nothing of fitting."""

from collections.abc import Iterator, Sequence

import numpy as np

from model.heads.pictures import Listing, Picture
from model.heads.start import FrozenStart
from model.heads.stored import Stored
from model.network.mixer import num_parameters
from model.recipe import Recipe

_FEW = 10  # training pictures of a class
_MOST_NAMED, _MOST_SKIPPED = 5, 100


def class_counts(whole: Stored) -> list[int]:
    """Training pictures of each class."""
    counts: list[int] = np.bincount(whole.train.labels, minlength=len(whole.labels)).tolist()
    return counts


def choices(start: FrozenStart, whole: Stored, recipe: Recipe, hidden_dim: int = 0) -> list[tuple[str, str]]:
    """What the head is fitted to, and how."""
    counts = class_counts(whole)
    held_out = "held out" if whole.is_held_out else "in a set of their own"
    uneven = f"; rare classes count for more, to the power of {recipe.balance:g} (--balance)" if recipe.balance else ""
    config = start.model.config
    return [
        ("pictures", f"{sum(counts)} to learn from, {len(whole.val)} to judge by, {held_out}"),
        ("classes", f"{len(counts)}, of {_range(counts)} pictures{uneven}"),
        (
            "network",
            f"{start.source}, {num_parameters(config) / 1e6:.1f} million parameters, which stay as they are (--init "
            "takes another; --recipe small trains all, from random weights)",
        ),
        ("image size", f"{config.image_size} pixels"),
        ("head", _head(hidden_dim)),
    ]


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least} to {most}"


def _head(hidden_dim: int) -> str:
    if hidden_dim:
        return f"a hidden layer of {hidden_dim}, weight decay and rounds chosen by folds of the training pictures"
    return "linear, its weight decay chosen by folds of the training pictures (--hidden N: with a hidden layer)"


def findings(whole: Stored, listed: Listing) -> list[str]:
    """Notes, then a line for each doubt: files that cannot be read, small classes, pictures on both sides."""
    return [*listed.notes, *_skipped(listed), *_small_classes(whole), *_on_both_sides(whole, listed)]


def _skipped(listed: Listing) -> Iterator[str]:
    for _, reason in listed.skipped[:_MOST_SKIPPED]:
        yield f"skipped: {reason}"
    if len(listed.skipped) > _MOST_SKIPPED:
        yield f"skipped: {len(listed.skipped) - _MOST_SKIPPED} more like these."


def _small_classes(whole: Stored) -> Iterator[str]:
    counts = class_counts(whole)
    small = [f"{label} {count}" for label, count in zip(whole.labels, counts, strict=True) if count < _FEW]
    if small:
        few = f"{len(small)} of {len(counts)} classes have fewer than {_FEW} training pictures"
        yield f"warning: {few}: {_some(small)}."


def _on_both_sides(whole: Stored, listed: Listing) -> Iterator[str]:
    """Validation pictures whose file is a training picture's, and training pictures under two labels."""
    known = dict(zip(whole.train.digests, whole.train.labels.tolist(), strict=True))
    names = _names(listed.train)
    twice = [picture for picture in listed.val if picture.digest in known]
    if twice:
        some = _some([f"{one.name} = {names.get(one.digest, 'a picture of an earlier run')}" for one in twice])
        yield (
            f"warning: {len(twice)} of {len(whole.val)} validation pictures are training pictures, too, so that the "
            f"accuracy looks better than it is: {some}."
        )
    first: dict[bytes, Picture] = {}
    torn = [one for one in listed.train if first.setdefault(one.digest, one).label != one.label]
    if torn:
        some = _some([f"{one.name} = {first[one.digest].name}" for one in torn])
        yield f"warning: {len(torn)} training pictures have two labels: {some}."


def _names(pictures: list[Picture]) -> dict[bytes, str]:
    return {picture.digest: picture.name for picture in pictures}


def _some(words: list[str]) -> str:
    more = len(words) - _MOST_NAMED
    return ", ".join(words[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
