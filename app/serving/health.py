"""Whether the service may be sent pictures: a stored one goes through the real path, again and again."""

import asyncio
import logging
import os
import time
from collections.abc import Callable

from app.errors import NotReady, QueueFull
from app.serving.canary import HealthFailure, failure_of
from app.serving.registry import STARTING, Model, Models
from app.system.worker_context import WorkerContext
from app.telemetry.metrics import Metrics

DRAINING = "The service is draining."
_SOON_S = 0.2  # until workers that start at the same time have left each other a permit

log = logging.getLogger("mixer.health")


class Health:
    """Ready once every model's canary has given its stored answer, and as long as they do.

    `is_draining`: whether the service finishes what it has accepted.
    """

    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        *,
        interval_s: float,
        timeout_s: float,
        watchdog_s: float,
        worker: WorkerContext,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._models = models
        self._metrics = metrics
        self.interval_s, self.timeout_s = interval_s, timeout_s
        self._watchdog_s = watchdog_s
        self._worker = worker
        self.is_draining = is_draining
        self._ending: str | None = None
        self._stalled: str | None = None
        self._reason: str | None = "The service is starting."

    @property
    def reason(self) -> str | None:
        """Why the service is not ready; None where it is."""
        return self._reason

    def is_ending(self) -> bool:
        """Whether this process is about to end, or is draining."""
        return self._ending is not None or self.is_draining()

    def is_ready(self) -> bool:
        """Whether expect_ready would raise nothing."""
        try:
            self.expect_ready()
        except NotReady:
            return False
        return True

    def expect_ready(self) -> None:
        """Raises NotReady with the reason: this worker's, or one of the others'."""
        if self._reason is not None:
            raise NotReady(self._reason)
        if self._stalled is not None and not self._worker.others_serve():
            raise NotReady(self._stalled)
        for number, words in self._worker.failures():
            raise NotReady(f"Worker {number}: {words}")

    def start_ending(self, words: str) -> None:
        """Not ready from now on, for a reason of this process alone: other workers serve, and do not hear of it."""
        self._ending = words
        self.review()

    def stall(self, words: str | None) -> None:
        """Why nothing is classified here for the time being, None where that is over. It counts where no other does."""
        if (words is None) != (self._stalled is None):
            self._worker.stall(words is not None)
            log.log(logging.INFO if words is None else logging.WARNING, "%s", words or "pictures are decoded again")
        self._stalled = words

    async def watch(self) -> None:
        """Probe for ever, `interval_s` apart, and watch the runs meanwhile: a probe may be waiting behind one.

        The lifespan has probed once before.
        """
        await asyncio.gather(self._keep_probing(), self._keep_watching_runs())

    async def _keep_probing(self) -> None:
        while True:
            pause_s = self.interval_s
            if any(model.failure is STARTING for model in self._models):  # there was no permit for its canary
                pause_s = min(_SOON_S, pause_s)
            await asyncio.sleep(pause_s)
            await self.probe()

    async def _keep_watching_runs(self) -> None:
        while True:
            await asyncio.sleep(self._watchdog_s / 4)
            self._watch_runs()

    async def probe(self) -> None:
        """Send every canary through the real path once and note what came of it. A full queue proves nothing."""
        began = time.perf_counter()
        proved = await asyncio.gather(*(self._probe(model) for model in self._models))
        self._metrics.canary_seconds.labels().set(time.perf_counter() - began)
        if all(proved):
            self._metrics.canary_last_success.labels().set(time.time())
        self.review()

    def review(self) -> None:
        """Ready where no model that is served has a complaint, and the service is not draining."""
        reason = next((self._words(model, model.failure) for model in self._models if model.failure), None)
        is_draining = self.is_draining()
        if is_draining or self._ending is not None:
            reason = self._ending or DRAINING
        before, self._reason = self._reason, reason
        self._metrics.ready.labels().set(reason is None)
        if not is_draining and self._ending is None:
            self._worker.report_failure(reason or "")
        if reason not in (before, DRAINING):  # said once every worker answers so
            log.log(logging.INFO if reason is None else logging.ERROR, "readiness: %s", reason or "ready")

    async def _probe(self, model: Model) -> bool:
        """Whether its canary got its answer, or it has none."""
        try:
            failure = await failure_of(model.classifier, timeout_s=self.timeout_s, lost_provider=model.lost_provider)
        except QueueFull:
            return False
        if self._models.get(model.name) is model:  # nobody has taken over meanwhile
            self._note(model, failure)
        return failure is None

    def _watch_runs(self) -> None:
        """Not ready where a run takes far too long; where it never ends, this process does, and another takes over."""
        stuck_s = self._models.stuck_s()
        if stuck_s > self._watchdog_s:
            log.critical("a run has not ended in %.1f s; this process ends", stuck_s)
            logging.shutdown()
            os._exit(1)  # its thread would keep any gentler end waiting
        for model in self._models:
            if model.failure is None and (stuck_s := model.classifier.stuck_s()) > self._watchdog_s / 2:
                self._note(model, HealthFailure("stuck_run", f"A run has not ended in {stuck_s:.1f} s."))
        self.review()

    def _note(self, model: Model, failure: HealthFailure | None) -> None:
        model.failure = failure
        if failure is not None:
            self._metrics.canary_failures.labels(failure.reason).inc()

    def _words(self, model: Model, failure: HealthFailure) -> str:
        return failure.words if len(self._models) == 1 else f"{model.name}: {failure.words}"
