"""A second model, and all that is done with it. Knows nothing of how it is opened."""

import logging
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass

from pydantic import Field

from app.serving.registry import Model, ModelEntry, entry_of
from app.shadow.rollout import Rollout
from app.shadow.second import Second
from app.shadow.trial import Trial

log = logging.getLogger("mixer.shadow")


class ShadowEntry(ModelEntry):
    """A second model that is tried on live traffic."""

    ready: bool = Field(description="Whether its stored picture got its stored answer; it does nothing where not.")
    share: float = Field(description="Share of the default model's pictures that it is to run, too.")
    answers: float = Field(description="Share of the clients that it answers; 0 where its answers were stopped.")


@dataclass(frozen=True)
class Shadow:
    """`rollout`: None where it answers nobody."""

    second: Second
    trial: Trial
    rollout: Rollout | None

    def works(self, interval_s: float, timeout_s: float) -> Iterator[Coroutine[None, None, object]]:
        """What runs from the start to the end of its process. The times: of its canary."""
        if self.rollout is not None:
            self.rollout.begin()
        yield self.trial.run()
        yield self.second.watch(interval_s, timeout_s)

    def entry(self) -> ShadowEntry | None:
        """What is told of it, as far as this process knows."""
        model = self.second.model()
        if model is None:
            return None
        answers = 0.0 if self.rollout is None or self.rollout.is_stopped else self.rollout.share
        return ShadowEntry(**dict(entry_of(model)), share=self.trial.share, answers=answers)

    def log_what_it_does(self, answering: Model) -> None:
        """One line, and another one where its labels are others than those of the model that answers."""
        model = self.second.model()
        if model is None:
            return
        engine, labels = model.classifier.engine, answering.classifier.spec.labels
        log.info(
            "trying %s %s in %s on %s with %g of the pictures; it answers %g of the clients",
            engine.spec.name, engine.spec.version, engine.precision, engine.provider,
            self.trial.share, 0 if self.rollout is None else self.rollout.share,
        )  # fmt: skip
        if set(labels) != set(engine.spec.labels):
            log.warning(
                "the shadow has %d labels, of which %s has %d: labels are compared by their text",
                engine.spec.num_classes, answering.name, len(set(labels) & set(engine.spec.labels)),
            )  # fmt: skip
        if self.rollout is not None and model.classifier.named == answering.classifier.named:
            log.warning(
                "the shadow and %s are both %s %s in %s: answers do not tell which of them gave them",
                answering.name, engine.spec.name, engine.spec.version, engine.precision,
            )  # fmt: skip
