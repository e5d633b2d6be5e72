"""A run as it is told of to sampled requests. Knows nothing of how spans are sent."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.engine.runners import Patches
from app.inference.executor import Executor, Ran
from app.inference.scores import Scores
from app.inference.undecoded import Undecoded
from app.inference.waiters import Waiter
from app.telemetry.tracing import RunTracing, Trace, Wait


@dataclass(frozen=True)
class TracedRuns:
    """What a batcher calls after each run."""

    tracing: RunTracing
    executor: Executor

    def __call__(
        self,
        batch: Sequence[Waiter[Patches | Undecoded, Scores]],
        started: float,
        infer_s: float,
        outcome: Sequence[Scores | Exception] | Exception,
    ) -> None:
        """A run that began at `started` has ended with its scores, or in an error."""
        waits: dict[Trace, list[Wait]] = {}
        answers = [outcome] * len(batch) if isinstance(outcome, Exception) else outcome
        ran = len(batch) if isinstance(outcome, Exception) else 0
        for waiter, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception) and answer is not outcome:
                continue  # it was no picture, and did not run
            ran += answer is not outcome
            if waiter.trace is not None:
                decode_s = waiter.item.decode_s if isinstance(waiter.item, Undecoded) else 0.0
                wait = Wait(waiter.arrived, max(0.0, started - waiter.arrived - decode_s))
                waits.setdefault(waiter.trace, []).append(wait)
        if waits:
            failure = type(outcome).__qualname__ if isinstance(outcome, Exception) else None
            attributes = {
                "mixer.batch_size": ran,
                "mixer.padding": self.executor.padding(ran),
                "mixer.instance": outcome.instance if isinstance(outcome, Ran) else None,
                "mixer.background": batch[0].in_background,
                "error.type": failure,
            }
            self.tracing.ran(waits, started, infer_s, attributes, failure)
