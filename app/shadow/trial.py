"""A share of the pictures that were answered, run by a second model, too, where nothing else is to be done.

What is offered waits in a short queue, of pictures or of their patches, for a moment in which nobody's picture waits;
what finds no place there is dropped. So a trial costs those who ask next to nothing, and can fail without them.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from random import random
from typing import NamedTuple

from app.collection.picture import held, size_of
from app.engine.runners import Patches
from app.errors import NotReady
from app.inference.classifier import Classified, Classifier, Picture
from app.inference.scores import Scores
from app.serving.registry import Model, Models
from app.shadow import comparing
from app.shadow.comparing import Answer, answer_of, sees_alike
from app.telemetry.shadow_metrics import ShadowMetrics
from model.preprocess import to_patches
from model.spec import ModelSpec

MOST_WAITING, MOST_WAITING_BYTES = 64, 16 << 20  # pictures of a process that are to be tried
_QUIET_S = 0.005  # without a picture, before one is tried: whoever sends one after the other has no pause as long
_LOOK_AGAIN_S = 1.0  # at who answers: a model may be exchanged while its spare time is waited for
LOGGED_S = 60.0  # between two lines about failures

log = logging.getLogger("mixer.shadow")


class _Waiting(NamedTuple):
    """An answer, and what it was about: the patches where both models see the same, else the picture (b"" there)."""

    answer: Answer
    picture: Picture
    patches: Patches | None
    size_bytes: int


class Trial:
    """One process's part of it. `shadow`: the second model, as it is now. `share`: of the pictures of the default."""

    def __init__(
        self,
        models: Models,
        shadow: Callable[[], Model | None],
        metrics: ShadowMetrics,
        *,
        share: float,
        timeout_s: float,
        chance: Callable[[], float] = random,
    ) -> None:
        self._models, self._shadow, self._metrics = models, shadow, metrics
        self.share, self._timeout_s, self._chance = share, timeout_s, chance
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._has_some = asyncio.Event()
        self._logged_at = -math.inf

    def offer(self, name: str, spec: ModelSpec, picture: Picture, patches: Patches, classified: Classified) -> None:
        """Have the shadow run this picture, too, if chance wants it. Takes microseconds."""
        if self._chance() >= self.share or name != self._models.asked(None).name:
            return
        shadow = self._shadow()
        if shadow is None:
            return
        is_same = sees_alike(spec, shadow.classifier.spec)
        size_bytes = patches.nbytes if is_same else size_of(picture)
        is_full = len(self._waiting) >= MOST_WAITING or self._waiting_bytes + size_bytes > MOST_WAITING_BYTES
        if is_full or shadow.failure is not None:
            self._lost(name, shadow, "dropped")
            return
        answer = answer_of(name, spec, classified.scores, classified.seconds["infer"])
        self._waiting.append(
            _Waiting(answer, b"", patches, size_bytes) if is_same else _Waiting(answer, held(picture), None, size_bytes)
        )
        self._waiting_bytes += size_bytes
        self._has_some.set()

    async def run(self) -> None:
        """Try for ever, whenever there is time."""
        while True:
            await self._has_some.wait()
            shadow = self._shadow()
            if shadow is None:
                self._take(len(self._waiting))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await _until_quiet(self._models.classifier())
                    await shadow.classifier.until_free()
                if shadow is self._shadow():
                    some = self._take(shadow.classifier.batcher.background_batch_size)
                    await asyncio.gather(*(self._try(shadow, one) for one in some))

    def _take(self, most: int) -> list[_Waiting]:
        some = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._waiting_bytes -= sum(one.size_bytes for one in some)
        if not self._waiting:
            self._has_some.clear()
        return some

    async def _try(self, shadow: Model, waiting: _Waiting) -> None:
        """Run one picture and count what came of it. Raises nothing but at the end of the process."""
        answer = waiting.answer
        try:
            scores, infer_s = await self._scores(shadow.classifier, waiting)
            if math.isnan(scores.probabilities[0]):
                raise ValueError("The logits of a picture are not all finite numbers.")  # noqa: TRY301 -- as any failure
            comparing.count(self._metrics, answer, shadow.name, shadow.classifier.spec, scores, infer_s)
        except NotReady:
            self._lost(answer.name, shadow, "dropped")
        except Exception:
            self._lost(answer.name, shadow, "failed")
            if time.monotonic() - self._logged_at >= LOGGED_S:
                self._logged_at = time.monotonic()
                log.exception("the shadow %s failed on a picture; said once a minute", shadow.name)

    async def _scores(self, classifier: Classifier, waiting: _Waiting) -> tuple[Scores, float]:
        """What the shadow says, and how long its run took. Raises whatever that raises."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        patches = waiting.patches
        if patches is None:
            prepare = partial(_patches_of, classifier)
            patches = await classifier.decoded(prepare, waiting.picture, deadline, patient=True)
        elif not sees_alike(waiting.answer.spec, classifier.spec):
            raise NotReady("The shadow has been exchanged meanwhile; expected one that sees the same patches.")
        with classifier.batcher.in_spare_time() as permits:
            answered = await permits.answer(patches, deadline)
        return answered.answer, answered.infer_s

    def _lost(self, name: str, shadow: Model, outcome: str) -> None:
        self._metrics.images.labels(name, shadow.name, outcome).inc()


async def _until_quiet(classifier: Classifier) -> None:
    """Until it has time, and has had nothing new to do for a moment."""
    while True:
        await classifier.until_free()
        before = classifier.batcher.admitted
        await asyncio.sleep(_QUIET_S)
        if classifier.batcher.admitted == before:
            return


def _patches_of(classifier: Classifier, picture: Picture, most_work: float) -> Patches:
    """In a thread that decodes."""
    return to_patches(classifier.pixels_of(picture, most_work), classifier.spec)
