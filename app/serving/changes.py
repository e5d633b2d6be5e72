"""What a reload has changed, in words for operators. Knows nothing of how one is done.

Labels are whatever a bundle's author wrote: few are named, quoted, and cut.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `mixer reload` says these words without loading an engine
    from app.engine.engine import Engine

NOTHING = "nothing has changed"
AS_BEFORE = "its labels, sizes and temperature are as they were"  # only its weights may be others

_NAMED = 3  # labels of each kind of change
_NAMED_CHARACTERS = 40
_SIZES = ("image_size", "patch_size", "channels", "temperature", "energy_threshold", "interpolation", "fit")


def changes(before: "Engine", after: "Engine") -> list[str]:
    """One line for each thing that clients or operators would notice; none where there is no such thing."""
    old, new = before.spec, after.spec
    lines = [_from_to(field, getattr(old, field), getattr(new, field)) for field in ("name", "version")]
    lines += [_from_to("num_classes", old.num_classes, new.num_classes), _labels(old.labels, new.labels)]
    lines += [_from_to(field, getattr(old, field), getattr(new, field)) for field in _SIZES]
    lines += [_from_to(name, getattr(before, name), getattr(after, name)) for name in ("precision", "provider")]
    return [line for line in lines if line]


def in_words(name: str, outcome: str, reason: str | None, changed: Sequence[str]) -> str:
    """What became of one bundle, in a line."""
    if outcome == "swapped":
        reason = "; ".join(changed) or AS_BEFORE
    return f"{name} {outcome}" + (f": {reason}" if reason else "")


def nothing_has_changed(outcomes: Iterable[str]) -> bool:
    """Whether every bundle is as it was."""
    return all(outcome == "unchanged" for outcome in outcomes)


def _from_to(name: str, before: object, after: object) -> str:
    return "" if before == after else f"{name} {_quoted(before)} -> {_quoted(after)}"


def _labels(before: Sequence[str], after: Sequence[str]) -> str:
    """How many labels are new, gone, or the same with another index, by which clients may know a class."""
    old, new = _indices(before), _indices(after)
    counted = [
        _counted("added", [label for label in new if len(new[label]) > len(old.get(label, ()))]),
        _counted("removed", [label for label in old if len(old[label]) > len(new.get(label, ()))]),
        _counted("moved to another index", [label for label in new if label in old and _has_moved(old, new, label)]),
    ]
    words = ", ".join(words for words in counted if words)
    return f"labels: {words}" if words else ""


def _indices(labels: Sequence[str]) -> dict[str, list[int]]:
    indices: defaultdict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        indices[label].append(index)
    return dict(indices)


def _has_moved(old: dict[str, list[int]], new: dict[str, list[int]], label: str) -> bool:
    return len(old[label]) == len(new[label]) and old[label] != new[label]


def _counted(what: str, labels: Sequence[str]) -> str:
    if not labels:
        return ""
    named = ", ".join(map(_quoted, labels[:_NAMED]))
    return f"{len(labels)} {what} ({named}{', ...' if len(labels) > _NAMED else ''})"


def _quoted(value: object) -> str:
    """Text in quotes and without control characters, cut; anything else as it is."""
    if not isinstance(value, str):
        return str(value)
    return repr(value if len(value) <= _NAMED_CHARACTERS else f"{value[:_NAMED_CHARACTERS]}...")
