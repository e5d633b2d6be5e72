"""One explanation: a picture decoded once, and its masked rows through the batcher behind everything else.

A row is a picture to the batcher, and none to the metrics of pictures.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.decoding.decoder import decode, upload_size
from app.decoding.raw_pixels import with_channels
from app.engine.runners import Patches
from app.errors import DeadlinePassed, InferenceFailed, OutOfMemory, ServiceError
from app.explanation.baselines import baseline_of
from app.explanation.masks import METHODS, Masks
from app.explanation.wanted import Wanted
from app.inference.answer import Prediction
from app.inference.classifier import Classifier, Item, Picture
from app.inference.permits import BackgroundPermits
from app.inference.scores import Scores
from app.system.threads import Threads
from app.telemetry.tracing import CURRENT, Trace
from model.preprocess import Pixels, seen_region, to_patches

UNIT = "logit"
_ROWS_BEFORE_MASKS = 1  # the whole picture
_COLORS = 3
_SHOWN_SIDE = 600  # pixels, beyond which an overlay does not show more
P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("mixer.explainer")

Permits = BackgroundPermits[Item, Scores]


class Region(NamedTuple):
    """What the grid covers of an upright upload of width x height pixels; beyond it where the model sees padding.

    turned: by how many degrees, counterclockwise, the model took the thing to be turned. The sides are those of the
    upload when it has been turned back by them around its middle.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int
    turned: float = 0.0


class Explanation(NamedTuple):
    """What each patch of a picture has to do with the answer `target`.

    values: float64 [rows, columns], what each patch adds to the target's logit; below 0 where it speaks against it.
    region: what the grid covers. seconds: in decode, queue and infer. runs: rows that were run.
    """

    target: Prediction
    values: NDArray[np.float64]
    region: Region
    seconds: Mapping[str, float]
    runs: int


class _Prepared(NamedTuple):
    patches: Patches
    masks: Masks
    region: Region
    seconds: float


@dataclass
class _Runs:
    """The rows of one explanation, on their way through the batcher in chunks."""

    permits: Permits
    deadline: float
    chunk: int
    total: int
    done: int = 0
    queue_s: float = 0.0
    infer_s: float = 0.0

    async def run(self, rows: Patches) -> list[Scores]:
        """The scores of uint8 [n, S, P*P*C]. Raises: DeadlinePassed, InferenceFailed, NotReady."""
        try:
            answered = await asyncio.gather(*self.permits.answers(list(rows), self.deadline))
        except ServiceError as error:
            if not isinstance(error, DeadlinePassed):
                raise
            raise self._late() from None
        except Exception as error:
            log.exception("the engine failed on an explanation")
            raise InferenceFailed("The engine failed on this picture; the service's log says why.") from error
        self.done += len(rows)
        self.permits.keep(self.total - self.done)
        self.queue_s += max(one.queue_s for one in answered)
        self.infer_s += max(one.infer_s for one in answered)
        return [one.answer for one in answered]

    async def run_all(self, masks: Masks, threads: Threads) -> list[Scores]:
        """The scores of all masked pictures, of which a chunk at a time is made, in a thread."""
        found: list[Scores] = []
        for start in range(0, masks.count, self.chunk):
            stop = min(start + self.chunk, masks.count)
            found += await self.run(await threads.submit(partial(masks.masked, start, stop), patient=True))
        return found

    def _late(self) -> DeadlinePassed:
        return DeadlinePassed(
            f"{self.done} of the {self.total} runs of this explanation were done by its deadline; expected all. "
            "It may be tried again when less is asked of the service, or with more time."
        )


class Explainer:
    """Explains the answers of one classifier."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.spec, self.named = classifier.spec, classifier.named

    async def explain(self, picture: Picture, wanted: Wanted, deadline: float) -> Explanation:
        """Until `deadline` (the event loop's clock).

        Raises: QueueFull where there is no room, or no time for so many runs; DeadlinePassed, NotReady,
        InferenceFailed, and what decoding raises.
        """
        classifier, batcher = self._classifier, self._classifier.batcher
        method = METHODS[wanted.method]
        total = _ROWS_BEFORE_MASKS + method.count(self.spec.num_patches)
        with batcher.admit_in_background(total, deadline) as permits:
            prepared = await classifier.decoded(
                partial(self._prepare, wanted, CURRENT.get()), picture, deadline, patient=True
            )
            patches, masks = prepared.patches, prepared.masks
            runs = _Runs(permits, deadline, batcher.background_batch_size * classifier.engine.instances, total)
            (whole,) = await runs.run(patches[np.newaxis])
            target = int(whole.order[0]) if wanted.target is None else wanted.target
            scores = await runs.run_all(masks, classifier.decoding.threads)
        logits = np.array([one.logits[target] for one in (whole, *scores)], dtype=np.float64)
        if not np.isfinite(logits).all():
            raise InferenceFailed("The logits of this picture are not all finite numbers. This is a bug.")
        side = math.isqrt(len(patches))
        return Explanation(
            {"label": self.spec.labels[target], "index": target, "probability": float(whole.probabilities[target])},
            masks.values(logits[0], logits[1:]).reshape(side, side),
            prepared.region,
            {"decode": prepared.seconds, "queue": runs.queue_s, "infer": runs.infer_s},
            total,
        )

    async def shown(self, picture: Picture, deadline: float) -> Pixels:
        """The picture as people see it, uint8 [H, W, 3], of about the size of an overlay. Raises as `explain`."""
        return await self._classifier.decoded(self._shown, picture, deadline, patient=True)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises, in a thread that decodes, behind what waits to be decoded."""
        return await self._classifier.decoding.threads.submit(partial(function, *args, **kwargs), patient=True)

    def _shown(self, picture: Picture, most_work: float) -> Pixels:
        limits = self._classifier.decoding.limits
        if isinstance(picture, bytes):
            return decode(picture, _COLORS, _SHOWN_SIDE, limits, most_work)
        return with_channels(picture, _COLORS, limits.max_pixels)

    def _prepare(self, wanted: Wanted, trace: Trace | None, picture: Picture, most_work: float) -> _Prepared:
        """In a thread that decodes."""
        started = time.perf_counter()
        pixels = self._classifier.pixels_of(picture, most_work)
        width, height = upload_size(picture, pixels) if isinstance(picture, bytes) else _size(picture)
        try:
            patches = to_patches(pixels, self.spec)
            sides, turned = seen_region(pixels, self.spec, width, height)
        except MemoryError:
            raise OutOfMemory("The picture was not resized: the service has no memory left for it.") from None
        region = Region(*sides, width, height, turned)
        masks = METHODS[wanted.method].masks(patches, baseline_of(patches, self.spec.patch_size, wanted.baseline))
        decode_s = time.perf_counter() - started
        if trace is not None:
            trace.decoded(self.named, started, decode_s, explains=True)
        return _Prepared(patches, masks, region, decode_s)


def _size(pixels: Pixels) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]
