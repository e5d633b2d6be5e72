"""The life of one picture: bytes -> pixels -> patches -> logits -> the most probable labels. Knows nothing of HTTP."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.batcher import Answered, Batcher, Limits, Place
from app.engine import Engine
from app.errors import BadParameter, DeadlinePassed, InferenceFailed, ServiceError
from app.images import DecodeLimits, decode
from app.metrics import Metrics
from app.runners import Patches
from app.threads import Threads
from model.preprocess import smallest_useful_side, to_patches

DEFAULT_TOP_K = 5

PicturePlace = Place[Patches, NDArray[np.float32]]

log = logging.getLogger("mixer.classifier")


@dataclass(frozen=True)
class Prediction:
    """One label with its probability in [0, 1] and its index among the model's classes."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Classified:
    """Predictions, most probable first, and where the time went."""

    predictions: tuple[Prediction, ...]
    decode_s: float
    queue_s: float
    infer_s: float
    batch_size: int


class Classifier:
    """Decodes in its own threads, runs in the engine's lanes, and lets the batcher decide what runs together."""

    def __init__(
        self, engine: Engine, *, limits: Limits, decode_limits: DecodeLimits, decode_threads: int, metrics: Metrics
    ) -> None:
        self.engine = engine
        self.spec = engine.spec
        self._decode_limits = decode_limits
        self._useful_side = smallest_useful_side(engine.spec)
        self._metrics = metrics
        self._decoders = Threads(decode_threads, "decode")
        self._lanes = Threads(limits.lanes, "lane")
        self.batcher: Batcher[Patches, NDArray[np.float32]] = Batcher(self._run, limits, metrics)

    @contextmanager
    def admit(self, count: int = 1) -> Iterator[list[PicturePlace]]:
        """Places for `count` pictures, all or none. Raises QueueFull, or NotReady while draining."""
        try:
            places = self.batcher.admit_all(count)
        except ServiceError as error:
            self._metrics.images.labels(error.code).inc(count)
            raise
        with ExitStack() as stack:
            yield [stack.enter_context(place) for place in places]

    async def classify(self, place: PicturePlace, payload: bytes, *, top_k: int, timeout_s: float) -> Classified:
        """The `top_k` most probable labels of one picture file.

        Raises: ServiceError of the kind that fits (errors.py).
        """
        try:
            answered, decode_s = await self.logits(place, payload, timeout_s=timeout_s)
        except ServiceError as error:
            self._metrics.images.labels(error.code).inc()
            raise
        except asyncio.CancelledError:
            self._metrics.images.labels("client_gone").inc()
            raise
        predictions = self._top(answered.answer, top_k)
        self._observe(predictions[0], decode_s, answered)
        return Classified(predictions, decode_s, answered.queue_s, answered.infer_s, answered.batch_size)

    async def logits(
        self, place: PicturePlace, payload: bytes, *, timeout_s: float
    ) -> tuple[Answered[NDArray[np.float32]], float]:
        """Logits float32 [K] of one picture file, and the seconds its decoding took. Raises ServiceError."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        patches, decode_s = await self._decoded(payload, deadline)
        try:
            answered = await place.answer(patches, deadline)
        except ServiceError:
            raise
        except Exception as error:
            log.exception("the engine failed on a picture")
            raise InferenceFailed("The engine failed on this picture; the service's log says why.") from error
        if not np.isfinite(answered.answer).all():
            raise InferenceFailed("The logits of this picture are not all finite numbers. This is a bug.")
        return answered, decode_s

    def close(self) -> None:
        """Let the threads end."""
        self._decoders.stop()
        self._lanes.stop()

    def expect_top_k(self, top_k: int | None) -> int:
        """`top_k`, or what it is where it was not said. Raises BadParameter, naming the number of classes."""
        if top_k is None:
            return min(DEFAULT_TOP_K, self.spec.num_classes)
        if not 1 <= top_k <= self.spec.num_classes:
            raise BadParameter(f"top_k is {top_k}; this model has {self.spec.num_classes} classes.")
        return top_k

    async def _decoded(self, payload: bytes, deadline: float) -> tuple[Patches, float]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._decoders.call(self._decode, payload)
        except TimeoutError:
            self._metrics.dropped("decode", "deadline")
            raise DeadlinePassed("The picture was not decoded before its deadline.") from None
        except asyncio.CancelledError:
            self._metrics.dropped("decode", "client_gone")
            raise

    def _decode(self, payload: bytes) -> tuple[Patches, float]:
        started = time.perf_counter()
        pixels = decode(payload, self.spec.channels, self._useful_side, self._decode_limits)
        patches = to_patches(pixels, self.spec)
        return patches, time.perf_counter() - started

    async def _run(self, batch: list[Patches]) -> list[NDArray[np.float32]]:
        logits = await self._lanes.call(self.engine.run, batch)
        self._metrics.padding_images.inc(self.engine.padding(len(batch)))
        return list(logits)

    def _top(self, logits: NDArray[np.float32], top_k: int) -> tuple[Prediction, ...]:
        scaled = logits.astype(np.float64) / self.spec.temperature
        powers = np.exp(scaled - scaled.max())
        probabilities = powers / powers.sum()
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        return tuple(Prediction(self.spec.labels[index], int(index), float(probabilities[index])) for index in order)

    def _observe(self, best: Prediction, decode_s: float, answered: Answered[NDArray[np.float32]]) -> None:
        metrics = self._metrics
        metrics.images.labels("classified").inc()
        metrics.top1_probability.observe(best.probability)
        metrics.predictions.labels(best.label).inc()
        for stage, seconds in (("decode", decode_s), ("queue", answered.queue_s), ("infer", answered.infer_s)):
            metrics.stage_seconds.labels(stage).observe(seconds)
