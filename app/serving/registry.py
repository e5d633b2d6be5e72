"""The classifiers that answer, by name, and how one takes over from another. Knows nothing of HTTP or of bundles.

A request gets its classifier and its permit there at once. So a takeover needs no lock: who has a permit of the old one
is answered by it, and who comes next gets the new one.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

from app.errors import ServiceError
from app.inference.classifier import Classifier, Expected
from app.serving.bundles import State
from app.serving.canary import HealthFailure
from app.serving.cards import Card
from app.telemetry.drift import Window
from app.telemetry.instruments import Gauge
from app.telemetry.metrics import Metrics

STARTING = HealthFailure("starting", "The service is starting.")
_SHOWN = 64  # characters


class UnknownModel(ServiceError):
    """No bundle is served under this name."""

    status, code, title = 404, "unknown_model", "Unknown model"


@dataclass(eq=False)
class Model:
    """A bundle that is served under `name`, and what is wrong with it, as far as its canary tells."""

    name: str
    state: State
    classifier: Classifier
    lost_provider: Callable[[], str | None]
    failure: HealthFailure | None = STARTING
    card: Card | None = None


class ModelEntry(BaseModel):
    """One bundle that is served."""

    name: str = Field(
        description="What to ask for, as ?model=NAME: the name of the bundle's folder, or MIXER_MODEL_NAME."
    )
    model: str = Field(description="The classifier's own name, which answers give.")
    version: str
    precision: Literal["fp32", "fp16", "int8"]
    num_classes: int
    ready: bool = Field(description="Whether its stored picture got its stored answer.")


class ModelsBody(BaseModel):
    """What is served, and which of it answers where a request names none."""

    default: str
    models: list[ModelEntry]


class Models:
    """The models that are served. `default`: the name of the one for requests that name none; empty: the first by name.

    `patience_s`: how long permits of a classifier are held at most. `on_gone` is called when one has been closed.
    `info`: tells what is there; else the gauge of what is served.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        default: str,
        patience_s: float,
        on_gone: Callable[[], object] = lambda: None,
        info: Gauge | None = None,
    ) -> None:
        self._info = metrics.engine_info if info is None else info
        self._wanted_default = default
        self._patience_s = patience_s
        self._on_gone = on_gone
        self._by_name: dict[str, Model] = {}
        self._by_own_name: dict[str, Model] = {}
        self._shown: set[tuple[str, str, str, str]] = set()
        self._retiring: dict[Classifier, asyncio.Task[None]] = {}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Model | None:
        """The one that is served under this name, if any."""
        return self._by_name.get(name)

    def classifier(self, name: str | None = None) -> Classifier:
        """The classifier to take a permit of now. Raises UnknownModel."""
        return self._default.classifier if name is None else self.asked(name).classifier

    def asked(self, name: str | None, version: str | None = None) -> Model:
        """The one that a request names, or the default, in this version if one is named. Raises UnknownModel.

        Where no bundle has that name, it may be the classifier's own, if no two have the same.
        """
        model = self._default if name is None else self._by_name.get(name) or self._by_own_name.get(name)
        if model is None:
            raise UnknownModel(f"model is {_shown(name)}; this service has {', '.join(self._by_name)}.")
        if version is not None and version != model.classifier.spec.version:
            raise UnknownModel(f"version is {_shown(version)}; {model.name} has {model.classifier.spec.version}.")
        return model

    def expect(self, deadline: float) -> Expected | None:
        """A permit for a picture that is on its way; None where its request may name one of several.

        Raises: QueueFull, NotReady.
        """
        return None if len(self._by_name) > 1 else self._default.classifier.expect(deadline)

    def body(self) -> ModelsBody:
        """What is served."""
        return ModelsBody(default=self._default.name, models=[entry_of(model) for model in self])

    def windows(self) -> Mapping[str, Window]:
        """The last answers of each that there is something to compare with, by name."""
        found = ((model.name, model.classifier.window) for model in self)
        return {name: window for name, window in found if window is not None}

    def take(self, model: Model) -> None:
        """Serve the model from now on, in place of the one with its name."""
        before = self._by_name.get(model.name)
        self._serve({**self._by_name, model.name: model})
        if before is not None:
            self._let_go(before.classifier)

    def remove(self, name: str) -> None:
        """Serve it no more. One has to be left."""
        gone = self._by_name[name]
        self._serve({other: model for other, model in self._by_name.items() if other != name})
        self._let_go(gone.classifier)

    def stuck_s(self) -> float:
        """For how many seconds the longest run of all has run, of models that were let go too; 0 where none is."""
        for classifier in [left for left, task in self._retiring.items() if task.done() and not left.stuck_s()]:
            del self._retiring[classifier]
        return max(one.stuck_s() for one in self._classifiers())

    async def drain(self, timeout_s: float) -> None:
        """Let all finish what they have; after `timeout_s` the rest fails with NotReady."""
        await asyncio.gather(*(one.batcher.close(timeout_s) for one in self._classifiers()))

    def close(self) -> None:
        """Wait for none of those that were let go."""
        for task in self._retiring.values():
            task.cancel()

    def _classifiers(self) -> list[Classifier]:
        return [*(model.classifier for model in self), *self._retiring]

    def _serve(self, by_name: dict[str, Model]) -> None:
        self._by_name = dict(sorted(by_name.items()))
        own = Counter(model.classifier.spec.name for model in self)
        self._by_own_name = {name: model for model in self if own[name := model.classifier.spec.name] == 1}
        self._default = self._by_name.get(self._wanted_default) or next(iter(self))
        shown = {_labels(model.classifier) for model in self}
        for labels in self._shown - shown:
            self._info.labels(*labels).set(0)
        for labels in shown:
            self._info.labels(*labels).set(1)
        self._shown = shown

    def _let_go(self, classifier: Classifier) -> None:
        task = asyncio.get_running_loop().create_task(self._drain_and_close(classifier), name="leaving")
        task.add_done_callback(lambda _: self._on_gone())
        self._retiring[classifier] = task

    async def _drain_and_close(self, classifier: Classifier) -> None:
        """Close it when the last has left; one whose run never ends is kept in sight of the watchdog."""
        await classifier.batcher.close(self._patience_s)
        if not classifier.stuck_s():
            del self._retiring[classifier]


def _shown(said: str | None) -> str:
    """What a client said, as far as an answer repeats it: a body may say megabytes."""
    return repr(said and said[:_SHOWN])


def _labels(classifier: Classifier) -> tuple[str, str, str, str]:
    engine = classifier.engine
    return engine.provider, engine.precision, engine.spec.name, engine.spec.version


def entry_of(model: Model) -> ModelEntry:
    """What is told of one model in a list."""
    classifier = model.classifier
    return ModelEntry(
        name=model.name,
        model=classifier.spec.name,
        version=classifier.spec.version,
        precision=classifier.engine.precision,
        num_classes=classifier.spec.num_classes,
        ready=model.failure is None,
    )
