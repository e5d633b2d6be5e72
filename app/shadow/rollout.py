"""Which requests the second model answers: a share of all clients, each always the same, until it fails too often.

Each process counts failures for itself. A reload that brings another second model begins anew.
"""

import hashlib
import logging
from collections import deque
from collections.abc import Callable

from app.errors import InferenceFailed
from app.inference.classifier import Classifier
from app.serving.registry import Model
from app.telemetry.shadow_metrics import ShadowMetrics
from model.spec import ModelSpec

LAST, MOST_FAILED = 100, 5  # of so many pictures that it answered last, so many failures are too many
STUCK_S = 5.0  # a run that takes longer is a failure, too: clients wait for it

log = logging.getLogger("mixer.shadow")


class Rollout:
    """`shadow`: the second model, as it is now. `share`: of the clients, in [0, 1]."""

    def __init__(self, shadow: Callable[[], Model | None], metrics: ShadowMetrics, *, share: float) -> None:
        self._shadow, self._metrics, self.share = shadow, metrics, share
        self._failed: deque[bool] = deque(maxlen=LAST)
        self._stopped: Classifier | None = None  # that has failed too often
        self._judged: Classifier | None = None  # whose failures are counted

    def begin(self) -> None:
        """From now on there is one."""
        shadow = self._shadow()
        if shadow is not None:
            self._begin(shadow)

    def model_for(self, client: str) -> Model | None:
        """The second model where it is to answer this client; None where the first is."""
        if _place_of(client) >= self.share:
            return None
        shadow = self._shadow()
        if shadow is None or shadow.failure is not None or shadow.classifier is self._stopped:
            return None
        if shadow.classifier is not self._judged:
            self._begin(shadow)
        if shadow.classifier.stuck_s() > STUCK_S:
            self._stop(shadow, "stuck_run", f"a run has not ended in {STUCK_S:g} s")
            return None
        return shadow

    def note(self, spec: ModelSpec, outcome: str) -> None:
        """What became of a picture that the model of this very spec was to answer, unless that has been exchanged.

        `outcome`: "classified", or the code of an error.
        """
        shadow, is_failure = self._shadow(), outcome == InferenceFailed.code
        if shadow is None or shadow.classifier.spec is not spec:
            return  # one before it fails as it goes: what waited behind a run that hangs
        if outcome != "classified" and not is_failure:
            return  # a client's own doing, or a full queue
        if shadow.classifier is not self._judged:
            self._begin(shadow)
        self._failed.append(is_failure)
        if is_failure and sum(self._failed) >= MOST_FAILED:
            words = f"{sum(self._failed)} of its last {len(self._failed)} pictures failed"
            self._stop(shadow, InferenceFailed.code, words)

    @property
    def is_stopped(self) -> bool:
        """Whether this second model answers no more."""
        shadow = self._shadow()
        return shadow is not None and shadow.classifier is self._stopped

    def _begin(self, shadow: Model) -> None:
        self._judged, self._stopped = shadow.classifier, None
        self._failed.clear()
        self._metrics.answering.labels(shadow.name).set(1)

    def _stop(self, shadow: Model, reason: str, words: str) -> None:
        if self._stopped is shadow.classifier:
            return
        self._stopped = shadow.classifier
        self._metrics.answering.labels(shadow.name).set(0)
        self._metrics.stops.labels(shadow.name, reason).inc()
        log.error("the shadow %s answers no more requests, and the model before it does: %s", shadow.name, words)


def _place_of(client: str) -> float:
    """A number in [0, 1) that is always the same for a client, so that a larger share keeps those of a smaller one."""
    return int.from_bytes(hashlib.blake2b(client.encode(), digest_size=7).digest()) / (1 << 56)
