"""What the service has to answer, known beforehand from the bare path: decoding and the engine, without the service.

Each expectation looks at an answer and says what is wrong with it, or "" where it is right.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engine import Engine
from app.errors import ServiceError
from benchmarks.serving.__main__ import decoder_of
from benchmarks.soak.wire import Answer
from model.spec import ModelSpec

Expectation = Callable[[Answer], str]
Probabilities = NDArray[np.float64]

TOLERANCE = 2e-3  # of a probability: rounding may differ by the neighbours in a batch
DEFAULT_TOP_K = 5
_MOST_KEPT = 32


class Oracle:
    """The bare path over one engine."""

    def __init__(self, engine: Engine) -> None:
        self.spec: ModelSpec = engine.spec
        self.model = {"name": engine.spec.name, "version": engine.spec.version, "precision": engine.precision}
        self._run = engine.run
        self._decode = decoder_of(engine.spec)
        self._known: dict[bytes, Probabilities | ServiceError] = {}

    def ask(self, payload: bytes) -> Probabilities | ServiceError:
        """Probabilities float64 [K] of a picture file, or the error that it is."""
        if payload not in self._known:
            self._known[payload] = self._find_out(payload)
        return self._known[payload]

    def one(self, payload: bytes, top_k: int | None = None) -> Expectation:
        """Of /classify."""
        found = self.ask(payload)
        if isinstance(found, ServiceError):
            return problem(found.status, found.code)
        return remembered(lambda answer: self._classified(answer, found, top_k))

    def many(self, files: Sequence[tuple[str, bytes]]) -> Expectation:
        """Of /classify/batch: file names and their contents."""
        found = [(name, self.ask(payload)) for name, payload in files]
        return remembered(lambda answer: self._batch(answer, found))

    def _find_out(self, payload: bytes) -> Probabilities | ServiceError:
        try:
            (logits,) = self._run([self._decode(payload)])
        except ServiceError as error:
            return error
        scaled = logits.astype(np.float64) / self.spec.temperature
        powers = np.exp(scaled - scaled.max())
        probabilities: Probabilities = powers / powers.sum()
        return probabilities

    def _classified(self, answer: Answer, probabilities: Probabilities, top_k: int | None) -> str:
        if answer.status != 200:
            return f"the status is {answer.status}; expected 200"
        content = json.loads(answer.body)
        return self._other_model(content) or self._unlike(content["predictions"], probabilities, top_k)

    def _batch(self, answer: Answer, found: Sequence[tuple[str, Probabilities | ServiceError]]) -> str:
        if answer.status != 200:
            return f"the status is {answer.status}; expected 200"
        content = json.loads(answer.body)
        results = content["results"]
        if len(results) != len(found):
            return f"{len(results)} results; expected {len(found)}"
        wrongs = [self._entry(entry, name, one) for entry, (name, one) in zip(results, found, strict=True)]
        return self._other_model(content) or next((wrong for wrong in wrongs if wrong), "")

    def _entry(self, entry: dict[str, Any], name: str, found: Probabilities | ServiceError) -> str:
        if entry["filename"] != name:
            return f"an entry is for {entry['filename']}; expected {name}"
        if isinstance(found, ServiceError):
            code = (entry.get("error") or {}).get("code")
            return "" if code == found.code else f"{name} has the error {code}; expected {found.code}"
        return self._unlike(entry.get("predictions") or [], found, None)

    def _other_model(self, content: dict[str, Any]) -> str:
        return "" if content["model"] == self.model else f"the model is {content['model']}; expected {self.model}"

    def _unlike(self, predictions: list[dict[str, Any]], probabilities: Probabilities, top_k: int | None) -> str:
        """How predictions differ from what the bare path says."""
        count = min(DEFAULT_TOP_K, len(probabilities)) if top_k is None else top_k
        if len(predictions) != count or len({one["index"] for one in predictions}) != count:
            return f"{len(predictions)} predictions; expected {count} different ones"
        told = np.array([one["probability"] for one in predictions])
        indices = [one["index"] for one in predictions]
        best = np.sort(probabilities)[::-1][:count]
        if np.abs(told - probabilities[indices]).max() > TOLERANCE or np.abs(told - best).max() > TOLERANCE:
            return f"probabilities {told.round(4).tolist()} of {indices}; expected {best.round(4).tolist()}"
        if [one["label"] for one in predictions] != [self.spec.labels[index] for index in indices]:
            return f"labels {[one['label'] for one in predictions]} for {indices}"
        return ""


def remembered(expectation: Expectation) -> Expectation:
    """The same; answers that were right are known again without a look inside."""
    right: set[bytes] = set()

    def expect(answer: Answer) -> str:
        if answer.status == 200 and answer.body in right:
            return ""
        try:
            wrong = expectation(answer)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return f"the answer {answer.body[:200]!r} cannot be read: {error!r}"
        if not wrong and len(right) < _MOST_KEPT:
            right.add(answer.body)
        return wrong

    return expect


def problem(status: int, code: str) -> Expectation:
    """RFC 9457."""

    def expect(answer: Answer) -> str:
        content = json.loads(answer.body)
        if answer.status == status == content["status"] and content["code"] == code:
            return ""
        return f"status {answer.status}, code {content['code']}; expected {status}, {code}"

    return remembered(expect)


def contains(*words: bytes) -> Expectation:
    """Status 200, and all the words in the body."""

    def expect(answer: Answer) -> str:
        if answer.status != 200:
            return f"the status is {answer.status}; expected 200"
        return "".join(f"{word!r} is not in the answer" for word in words if word not in answer.body)

    return expect
