"""What the service has to answer, known beforehand from the bare path: decoding and the engine, without the service.

Each expectation looks at an answer and says what is wrong with it, or "" where it is right.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.engine.engine import Engine
from app.errors import ServiceError
from benchmarks.serving.__main__ import decoder_of
from benchmarks.soak.wire import Answer
from model.spec import ModelSpec

Expectation = Callable[[Answer], str]
Probabilities = NDArray[np.float64]
Logits = NDArray[np.float32]

TOLERANCE = 2e-3  # of a probability: rounding may differ by the neighbours in a batch
DEFAULT_TOP_K = 5
_MOST_KEPT = 32
_VERSION = re.compile(rb'"version": ?"([^"]*)"')


class Oracle:
    """The bare path over one engine. `others`: versions of its graph with their temperatures, the same in all else.

    `serving`: the versions that may answer now; at first only the engine's own.
    """

    def __init__(self, engine: Engine, others: Mapping[str, float] | None = None) -> None:
        self.spec: ModelSpec = engine.spec
        self.serving = {engine.spec.version}
        self.model = {"name": engine.spec.name, "version": engine.spec.version, "precision": engine.precision}
        self._run = engine.run
        self._decode = decoder_of(engine.spec)
        self._temperatures = {engine.spec.version: engine.spec.temperature, **(others or {})}
        self._known: dict[bytes, Logits | ServiceError] = {}

    def ask(self, payload: bytes) -> Probabilities | ServiceError:
        """Probabilities float64 [K] of a picture file by the engine's own version, or the error that it is."""
        found = self._seen(payload)
        return found if isinstance(found, ServiceError) else self._probabilities(found, self.spec.version)

    def one(self, payload: bytes, top_k: int | None = None) -> Expectation:
        """Of /classify."""
        found = self._seen(payload)
        if isinstance(found, ServiceError):
            return problem(found.status, found.code)
        return self._by_who_serves(remembered(lambda answer: self._classified(answer, found, top_k)))

    def many(self, files: Sequence[tuple[str, bytes]]) -> Expectation:
        """Of /classify/batch: file names and their contents."""
        found = [(name, self._seen(payload)) for name, payload in files]
        return self._by_who_serves(remembered(lambda answer: self._batch(answer, found)))

    def _seen(self, payload: bytes) -> Logits | ServiceError:
        if payload not in self._known:
            self._known[payload] = self._find_out(payload)
        return self._known[payload]

    def _find_out(self, payload: bytes) -> Logits | ServiceError:
        try:
            (logits,) = self._run([self._decode(payload)]).logits
        except ServiceError as error:
            return error
        return logits

    def _probabilities(self, logits: Logits, version: str) -> Probabilities:
        scaled = logits.astype(np.float64) / self._temperatures[version]
        powers = np.exp(scaled - scaled.max())
        probabilities: Probabilities = powers / powers.sum()
        return probabilities

    def _by_who_serves(self, expectation: Expectation) -> Expectation:
        """The same, and the version that answered is one that serves: what is right of one no longer is of another."""

        def expect(answer: Answer) -> str:
            wrong = expectation(answer)
            version = _VERSION.search(answer.body)
            if wrong or version is None or version[1].decode() in self.serving:
                return wrong
            return f"version {version[1].decode()} has answered; expected {' or '.join(sorted(self.serving))}"

        return expect

    def _classified(self, answer: Answer, logits: Logits, top_k: int | None) -> str:
        if answer.status != 200:
            return f"the status is {answer.status}; expected 200"
        content = json.loads(answer.body)
        return self._other_model(content) or self._unlike(
            content["predictions"], self._probabilities(logits, content["model"]["version"]), top_k
        )

    def _batch(self, answer: Answer, found: Sequence[tuple[str, Logits | ServiceError]]) -> str:
        if answer.status != 200:
            return f"the status is {answer.status}; expected 200"
        content = json.loads(answer.body)
        results = content["results"]
        if len(results) != len(found):
            return f"{len(results)} results; expected {len(found)}"
        if other := self._other_model(content):
            return other
        version = content["model"]["version"]
        wrongs = [self._entry(entry, name, one, version) for entry, (name, one) in zip(results, found, strict=True)]
        return next((wrong for wrong in wrongs if wrong), "")

    def _entry(self, entry: dict[str, Any], name: str, found: Logits | ServiceError, version: str) -> str:
        if entry["filename"] != name:
            return f"an entry is for {entry['filename']}; expected {name}"
        if isinstance(found, ServiceError):
            code = (entry.get("error") or {}).get("code")
            return "" if code == found.code else f"{name} has the error {code}; expected {found.code}"
        return self._unlike(entry.get("predictions") or [], self._probabilities(found, version), None)

    def _other_model(self, content: dict[str, Any]) -> str:
        model, version = content["model"], content["model"].get("version")
        if version in self._temperatures and model == {**self.model, "version": version}:
            return ""
        return f"the model is {model}; expected {self.model}"

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
