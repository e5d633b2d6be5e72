"""A stored picture through the real path of one classifier: does it get its stored answer? Decides nothing."""

import asyncio
import base64
import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from app.errors import QueueFull, ServiceError
from app.inference.answer import Wanted
from app.inference.classifier import Classifier

log = logging.getLogger("mixer.canary")


class HealthFailure(NamedTuple):
    """What is wrong. `reason`: one of a few, for metrics; `words`: for people."""

    reason: str
    words: str


async def failure_of(
    classifier: Classifier, *, timeout_s: float, lost_provider: Callable[[], str | None]
) -> HealthFailure | None:
    """What is wrong with a classifier; None where its canary got its answer, or where it has none.

    Raises: QueueFull, which proves nothing.
    """
    try:
        if lost := lost_provider():
            return HealthFailure("provider", lost)
        drift = await _drift(classifier, timeout_s)
    except QueueFull:
        raise
    except ServiceError as error:
        return HealthFailure(error.code, f"The canary picture was not classified: {error}")
    except Exception:
        log.exception("the canary check failed")
        return HealthFailure("check_failed", "The canary check itself failed; the service's log says why.")
    return None if drift is None else HealthFailure("wrong_answer", drift)


async def _drift(classifier: Classifier, timeout_s: float) -> str | None:
    canary = classifier.spec.canary
    if canary is None:
        return None
    deadline = asyncio.get_running_loop().time() + timeout_s
    with classifier.admit() as (permit,):
        payload = base64.b64decode(canary.picture)
        classified = await classifier.classify(
            permit, payload, wanted=Wanted(top_k=1), deadline=deadline, is_counted=False
        )
    drift = float(np.abs(classified.scores.logits - np.asarray(canary.logits, dtype=np.float32)).max())
    if drift > canary.atol:
        return f"The canary picture's logits are off by {drift:.4g}; expected at most {canary.atol:.4g}."
    return None
