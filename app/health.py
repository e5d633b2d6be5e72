"""Whether the service may be sent pictures: a stored one goes through the real path, again and again."""

import asyncio
import base64
import logging
import os

import numpy as np

from app.classifier import Classifier
from app.errors import NotReady, QueueFull, ServiceError
from app.workers import Post

_DRAINING = "The service is draining."

log = logging.getLogger("mixer.health")


class Health:
    """Ready once the canary has given its stored answer, and as long as it does."""

    def __init__(
        self,
        classifier: Classifier,
        *,
        interval_s: float,
        timeout_s: float,
        watchdog_s: float,
        post: Post,
    ) -> None:
        self._classifier = classifier
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._watchdog_s = watchdog_s
        self._post = post
        self._draining = False
        self._reason: str | None = "The service is starting."

    @property
    def reason(self) -> str | None:
        """Why the service is not ready; None where it is."""
        return self._reason

    def expect_ready(self) -> None:
        """Raises NotReady with the reason: this worker's, or one of the others'."""
        if self._reason is not None:
            raise NotReady(self._reason)
        for number, words in self._post.complaints():
            raise NotReady(f"Worker {number}: {words}")

    def start_draining(self) -> None:
        """Not ready from now on: the service finishes what it has accepted."""
        self._draining = True
        self._reason = _DRAINING

    async def watch(self) -> None:
        """Probe for ever, `interval_s` apart."""
        while True:
            await self.probe()
            until = asyncio.get_running_loop().time() + self._interval_s
            while (left_s := until - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(min(left_s, self._watchdog_s / 4))
                self._watch_runs()

    async def probe(self) -> None:
        """Send the canary through the real path once and note what came of it. A full queue proves nothing."""
        try:
            reason = await self._canary_complaint()
        except QueueFull:
            return
        except ServiceError as error:
            reason = f"The canary picture was not classified: {error}"
        except Exception:
            log.exception("the canary check failed")
            reason = "The canary check itself failed; the service's log says why."
        self._complain(reason)

    def _watch_runs(self) -> None:
        """Not ready where a run takes far too long; where it never ends, this process does, and another takes over."""
        stuck_s = self._classifier.stuck_s()
        if stuck_s > self._watchdog_s:
            log.critical("a run has not ended in %.1f s; this process ends", stuck_s)
            logging.shutdown()
            os._exit(1)  # its thread would keep any gentler end waiting
        if stuck_s > self._watchdog_s / 2:
            self._complain(f"A run has not ended in {stuck_s:.1f} s.")

    def _complain(self, reason: str | None) -> None:
        if self._draining:
            reason = _DRAINING
        if reason != self._reason:
            log.log(logging.INFO if reason is None else logging.ERROR, "readiness: %s", reason or "ready")
        self._reason = reason
        if not self._draining:
            self._post.complain(reason or "")

    async def _canary_complaint(self) -> str | None:
        canary = self._classifier.spec.canary
        if canary is None:
            return None
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        with self._classifier.admit() as (place,):
            answered, _ = await self._classifier.scores(place, base64.b64decode(canary.picture), deadline=deadline)
        drift = float(np.abs(answered.answer.logits - np.asarray(canary.logits, dtype=np.float32)).max())
        if drift > canary.atol:
            return f"The canary picture's logits are off by {drift:.4g}; expected at most {canary.atol:.4g}."
        return None
