"""A run as it is told of to sampled requests. Knows nothing of how spans are sent."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.engine.runners import Patches
from app.inference.executor import Executor, Ran
from app.inference.scores import Scores
from app.inference.waiters import Waiter
from app.telemetry.tracing import RunTracing, Trace


@dataclass(frozen=True)
class TracedRuns:
    """What a batcher calls after each run."""

    tracing: RunTracing
    executor: Executor

    def __call__(
        self,
        batch: Sequence[Waiter[Patches, Scores]],
        started: float,
        infer_s: float,
        outcome: Sequence[Scores] | Exception,
    ) -> None:
        """A run that began at `started` has ended with its scores, or in an error."""
        arrivals: dict[Trace, list[float]] = {}
        for waiter in batch:
            if waiter.trace is not None:
                arrivals.setdefault(waiter.trace, []).append(waiter.arrived)
        if arrivals:
            failure = type(outcome).__qualname__ if isinstance(outcome, Exception) else None
            attributes = {
                "mixer.batch_size": len(batch),
                "mixer.padding": self.executor.padding(len(batch)),
                "mixer.instance": outcome.instance if isinstance(outcome, Ran) else None,
                "mixer.background": batch[0].in_background,
                "error.type": failure,
            }
            self.tracing.ran(arrivals, started, infer_s, attributes, failure)
