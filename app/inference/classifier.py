"""The life of one picture: bytes -> pixels -> patches -> logits -> the most probable labels. Knows nothing of HTTP."""

import asyncio
import logging
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypedDict

from app.decoding.cost_checks import TakesLong
from app.decoding.decoder import DecodeLimits, decode
from app.engine.engine import Engine
from app.engine.runners import Patches
from app.errors import BadParameter, DeadlinePassed, InferenceFailed, OutOfMemory, ServiceError
from app.inference.admission import Limits
from app.inference.batcher import Batcher, Permit
from app.inference.scores import Instances, Scores
from app.inference.waiters import Answered
from app.system.quota import Quota
from app.system.threads import Threads
from app.telemetry.metrics import Metrics
from app.telemetry.model_metrics import ModelMetrics
from model.preprocess import smallest_useful_side, to_patches

DEFAULT_TOP_K = 5
# What has no more of these is decoded first: the largest take hundreds of times as long.
_SMALL_BYTES, _LITTLE_WORK = 100_000, 2_000_000

log = logging.getLogger("mixer.classifier")


ImagePermit = Permit[Patches, Scores]


class Prediction(TypedDict):
    """One label with its index among the model's classes and its probability in [0, 1], as clients get it."""

    label: str
    index: int
    probability: float


class Classified(NamedTuple):
    """Predictions, most probable first, and where the time went: seconds in decode, queue and infer."""

    predictions: list[Prediction]
    seconds: Mapping[str, float]
    batch_size: int


class Decoding:
    """What all classifiers of a process share: `count` threads that decode pictures, and the limits of that."""

    def __init__(self, count: int, limits: DecodeLimits) -> None:
        self.threads = Threads(count, "decode")
        self.limits = limits

    def close(self) -> None:
        """Let the threads end."""
        self.threads.stop()


class Classifier:
    """Decodes in threads, runs in the engine's instances, and lets the batcher decide what runs together.

    Nothing that it holds holds it, so that the engine's memory is free as soon as nobody needs the classifier.
    `permits`: those that it has with other classifiers together; else queue_capacity of its own.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        limits: Limits,
        decoding: Decoding,
        metrics: Metrics | ModelMetrics,
        permits: Quota | None = None,
    ) -> None:
        self.engine = engine
        self.spec = engine.spec
        self.max_batch_size = limits.max_batch_size
        self.named = {"name": engine.spec.name, "version": engine.spec.version, "precision": engine.precision}
        self._decoding = decoding
        self._useful_side = smallest_useful_side(engine.spec)
        self._metrics = metrics
        self._instances = Instances(engine, limits.instances, metrics)
        self.batcher: Batcher[Patches, Scores] = Batcher(
            self._instances.run, limits, metrics, clock=time.perf_counter, permits=permits
        )

    def admit(self, count: int = 1, *, deadline: float = math.inf) -> "Permits":
        """Places for `count` pictures, all or none, that can be answered by `deadline` (the event loop's clock).

        Raises: QueueFull, NotReady while draining.
        """
        try:
            return Permits(self.batcher.admit_all(count, deadline))
        except ServiceError as error:
            self._metrics.lost(error.code, count)
            raise

    async def classify(
        self,
        permit: ImagePermit,
        payload: bytes,
        *,
        top_k: int,
        deadline: float,
        patient: bool = False,
        client: Hashable = None,
    ) -> Classified:
        """The `top_k` most probable labels of one picture file, until `deadline` (the event loop's clock).

        A patient one lets others be decoded first, a few dozen at most; large ones are patient anyway. `client`: whose
        pictures take turns with those of others.

        Raises: ServiceError of the kind that fits (errors.py).
        """
        try:
            answered, decode_s = await self.scores(permit, payload, deadline=deadline, patient=patient, client=client)
        except ServiceError as error:
            self._metrics.lost(error.code)
            raise
        except asyncio.CancelledError:
            self._metrics.lost("client_gone")
            raise
        predictions = self._top(answered.answer, top_k)
        seconds = {"decode": decode_s, "queue": answered.queue_s, "infer": answered.infer_s}
        self._metrics.classified(predictions[0]["label"], predictions[0]["probability"], seconds)
        return Classified(predictions, seconds, answered.batch_size)

    async def scores(
        self, permit: ImagePermit, payload: bytes, *, deadline: float, patient: bool = False, client: Hashable = None
    ) -> tuple[Answered[Scores], float]:
        """What the network says of one picture file, and the seconds its decoding took. Raises ServiceError."""
        patches, decode_s = await self._decoded(payload, deadline, patient, client)
        try:
            answered = await permit.answer(patches, deadline)
        except ServiceError:
            raise
        except Exception as error:
            log.exception("the engine failed on a picture")
            raise InferenceFailed("The engine failed on this picture; the service's log says why.") from error
        if math.isnan(answered.answer.probabilities[0]):
            raise InferenceFailed("The logits of this picture are not all finite numbers. This is a bug.")
        return answered, decode_s

    def stuck_s(self) -> float:
        """For how many seconds the longest run under way has run; 0 where none is."""
        return self._instances.threads.longest_s()

    def close(self) -> None:
        """Let the instances' threads end."""
        self._instances.threads.stop()

    def expect_top_k(self, top_k: int | None) -> int:
        """`top_k`, or what it is where it was not said. Raises BadParameter, naming the number of classes."""
        if top_k is None:
            return min(DEFAULT_TOP_K, self.spec.num_classes)
        if not 1 <= top_k <= self.spec.num_classes:
            raise BadParameter(f"top_k is {top_k}; expected 1 to {self.spec.num_classes}, the number of classes.")
        return top_k

    async def _decoded(self, payload: bytes, deadline: float, patient: bool, client: Hashable) -> tuple[Patches, float]:
        threads, size = self._decoding.threads, len(payload)
        if not patient and size <= _SMALL_BYTES:
            with suppress(TakesLong):
                little = threads.submit(lambda: self._decode(payload, _LITTLE_WORK), payload_bytes=size)
                return await self._until(deadline, little)
        work = threads.submit(lambda: self._decode(payload), patient=True, client=client, payload_bytes=size)
        return await self._until(deadline, work)

    async def _until(self, deadline: float, decoded: "asyncio.Future[tuple[Patches, float]]") -> tuple[Patches, float]:
        timer = asyncio.get_running_loop().call_at(deadline, self._give_up, decoded)
        try:
            return await decoded
        except asyncio.CancelledError:
            self._metrics.dropped("decode", "client_gone")
            raise
        finally:
            timer.cancel()

    def _give_up(self, decoded: "asyncio.Future[tuple[Patches, float]]") -> None:
        if not decoded.done():
            self._metrics.dropped("decode", "deadline")
            decoded.set_exception(DeadlinePassed("The picture was not decoded before its deadline."))

    def _decode(self, payload: bytes, most_work: float = math.inf) -> tuple[Patches, float]:
        started = time.perf_counter()
        pixels = decode(payload, self.spec.channels, self._useful_side, self._decoding.limits, most_work)
        try:
            patches = to_patches(pixels, self.spec)
        except MemoryError:
            raise OutOfMemory("The picture was not resized: the service has no memory left for it.") from None
        return patches, time.perf_counter() - started

    def _top(self, scores: Scores, top_k: int) -> list[Prediction]:
        labels, best = self.spec.labels, scores.order[:top_k]
        found = zip(best.tolist(), scores.probabilities[best].tolist(), strict=True)
        return [{"label": labels[index], "index": index, "probability": probability} for index, probability in found]


class Permits:
    """Places that are held inside a with statement."""

    def __init__(self, permits: Sequence[ImagePermit]) -> None:
        self._permits = permits

    def __enter__(self) -> Sequence[ImagePermit]:
        return self._permits

    def __exit__(self, *error: object) -> None:
        for permit in self._permits:
            permit.release()
