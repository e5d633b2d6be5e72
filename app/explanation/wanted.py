"""What a client wants explained, and how: its words, checked. Knows nothing of pictures."""

from collections.abc import Iterable
from typing import NamedTuple, TypedDict

from app.errors import BadParameter
from app.explanation.baselines import BASELINES
from app.explanation.masks import METHODS
from app.system.spelling import nearest
from model.spec import ModelSpec

DEFAULT_METHOD, DEFAULT_BASELINE = "occlusion", "mean"
_SHOWN = 64  # characters


class Asked(TypedDict, total=False):
    """Unchecked: a label or its index, a method, a baseline."""

    target: str | None
    method: str | None
    baseline: str | None


class Wanted(NamedTuple):
    """`target`: the index of the label to explain; None: the most probable one."""

    target: int | None
    method: str
    baseline: str


def wanted_of(spec: ModelSpec, asked: Asked) -> Wanted:
    """Raises BadParameter for what this model has not, or nobody has."""
    target = asked.get("target")
    return Wanted(
        None if target is None else _index_of(spec, target),
        _one_of(METHODS, "method", asked.get("method") or DEFAULT_METHOD),
        _one_of(BASELINES, "baseline", asked.get("baseline") or DEFAULT_BASELINE),
    )


def _index_of(spec: ModelSpec, target: str) -> int:
    if target in spec.labels:
        return spec.labels.index(target)
    if target.isascii() and target.isdecimal() and len(target) < 10 and int(target) < spec.num_classes:
        return int(target)
    meant = nearest(target[:_SHOWN], spec.labels)
    hint = "" if meant is None else f", such as {meant!r}"
    raise BadParameter(
        f"target is {target[:_SHOWN]!r}; expected a label of the model{hint}, or an index from 0 to "
        f"{spec.num_classes - 1}."
    )


def _one_of(known: Iterable[str], name: str, value: str) -> str:
    names = tuple(known)
    if value not in names:
        raise BadParameter(f"{name} is {value[:_SHOWN]!r}; expected {' or '.join(names)}.")
    return value
