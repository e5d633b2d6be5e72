"""An inference request of the Open Inference Protocol -> a query, its answers -> tensors, over REST and gRPC alike.

One input `image`; outputs `probabilities`, on request `logits`, `embedding`, `uncertain`, or labels of the first two.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dialects.dialect import Query
from app.dialects.oip.tensors import BYTES, Tensor, joined, pictures_of
from app.errors import BadParameter
from app.inference.classifier import Classified, Classifier

INPUT = "image"
PROBABILITIES, LOGITS, EMBEDDING, UNCERTAIN = OUTPUTS = ("probabilities", "logits", "embedding", "uncertain")
CLASSIFICATION, TIMEOUT = "classification", "timeout"
_MICROSECONDS = 1e-6
_WITH_LABELS = (PROBABILITIES, LOGITS)
_SHOWN = 64  # characters


class Wish(NamedTuple):
    """An output that is asked for. `labels`: how many of the largest values, with their labels; 0: the values.

    `binary`: whether it is told as bytes, where that is a choice.
    """

    name: str = PROBABILITIES
    labels: int = 0
    binary: bool = False


@dataclass(frozen=True)
class Asked:
    """What a query leaves for its answer: the request's id, and the outputs that are wanted, in order."""

    id: str
    wishes: Sequence[Wish]


class Output(NamedTuple):
    """A tensor of the answer: float32 values [N, K], truth values [N, 1], or the elements of BYTES [N, k]."""

    wish: Wish
    shape: tuple[int, ...]
    values: NDArray[np.float32] | NDArray[np.bool_] | list[bytes]

    @property
    def datatype(self) -> str:
        """The protocol's word for the type of its elements."""
        if isinstance(self.values, list):
            return BYTES
        return "BOOL" if self.values.dtype == np.bool_ else "FP32"

    def raw(self) -> bytes:
        """Its bytes."""
        return joined(self.values) if isinstance(self.values, list) else _little_endian(self.values).tobytes()

    def data(self) -> list[Any]:
        """Its elements, row by row, for JSON."""
        if isinstance(self.values, list):
            return [one.decode() for one in self.values]
        values: list[Any] = self.values.ravel().tolist()
        return values


def query_of(
    inputs: Sequence[Tensor], wishes: Sequence[Wish], parameters: Mapping[str, Any], request_id: str = ""
) -> Query:
    """What a request asks. Parameters of whole and truth values; those that are not known are passed over.

    Raises: BadParameter, TooManyBytes.
    """
    if len(inputs) != 1 or inputs[0].name != INPUT:
        names = ", ".join(repr(one.name[:_SHOWN]) for one in inputs[:8]) or "none"
        raise BadParameter(f"The inputs are {names}; expected one, {INPUT!r}.")
    asked = Asked(request_id, wishes or (Wish(),))
    if len({wish.name for wish in asked.wishes}) < len(asked.wishes):
        raise BadParameter(f"The {len(asked.wishes)} outputs name one twice; expected each of them once.")
    comparable = any(wish.name == EMBEDDING for wish in asked.wishes)
    timeout_s = timeout_s_of(parameters)
    return Query(pictures_of(inputs[0]), top_k=1, timeout_s=timeout_s, options=asked, comparable=comparable)


def expect_output(name: str) -> str:
    """Raises BadParameter for an output that there is not."""
    if name not in OUTPUTS:
        raise BadParameter(f"The output {name[:_SHOWN]!r} is asked for; expected some of {', '.join(OUTPUTS)}.")
    return name


def timeout_s_of(parameters: Mapping[str, Any]) -> float:
    """Seconds, of the microseconds in `timeout`; 0 and nothing mean no limit. Raises BadParameter."""
    value = parameters.get(TIMEOUT, 0)
    try:
        microseconds = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        )
    except (ValueError, OverflowError):
        microseconds = math.nan
    if not 0 <= microseconds < math.inf:
        raise BadParameter(f"timeout is {str(value)[:_SHOWN]}; expected microseconds, 0 or more.")
    return microseconds * _MICROSECONDS or math.inf


def labels_of(parameters: Mapping[str, Any]) -> int:
    """How many labels `classification` asks for; 0 where it does not. Raises BadParameter."""
    value = parameters.get(CLASSIFICATION, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise BadParameter(f"{CLASSIFICATION} is {str(value)[:_SHOWN]}; expected how many labels, 0 or more.")
    return value


def outputs_of(asked: Asked, classifier: Classifier, answers: Sequence[Classified]) -> list[Output]:
    """The outputs that are wanted, in order, a row for each picture. Raises: BadParameter, NoEmbedding."""
    return [_output(wish, classifier, answers) for wish in asked.wishes]


def _output(wish: Wish, classifier: Classifier, answers: Sequence[Classified]) -> Output:
    if wish.labels and wish.name not in _WITH_LABELS:
        raise BadParameter(f"{CLASSIFICATION} is asked of {wish.name}, which has no labels; expected another output.")
    if wish.name == UNCERTAIN:
        return _uncertain(wish, answers)
    if wish.name == EMBEDDING:
        classifier.expect_embedding()
        return _stacked(wish, [one.scores.embedding for one in answers if one.scores.embedding is not None])
    if wish.labels:
        return _labels(wish, classifier.spec.labels, answers)
    return _stacked(wish, [getattr(one.scores, wish.name) for one in answers])


def _stacked(wish: Wish, rows: Sequence[NDArray[Any]]) -> Output:
    values = (rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows)).astype(np.float32)
    return Output(wish, values.shape, values)


def _uncertain(wish: Wish, answers: Sequence[Classified]) -> Output:
    rows = [[one.certainty["uncertain"]] for one in answers if "uncertain" in one.certainty]
    if len(rows) < len(answers):
        raise BadParameter(f"The output {UNCERTAIN} is asked of a model without an energy threshold; expected another.")
    return Output(wish, (len(rows), 1), np.array(rows, np.bool_))


def _labels(wish: Wish, labels: Sequence[str], answers: Sequence[Classified]) -> Output:
    """The largest values of each picture, each as VALUE:INDEX:LABEL; a label may have colons."""
    count = min(wish.labels, len(labels))
    elements = []
    for one in answers:
        values = getattr(one.scores, wish.name)
        elements += [f"{values[at]:f}:{at}:{labels[at]}".encode() for at in one.scores.order[:count].tolist()]
    return Output(wish, (len(answers), count), elements)


def _little_endian(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("<"), copy=False)
