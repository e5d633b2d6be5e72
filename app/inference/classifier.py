"""The life of one picture: bytes -> pixels -> patches -> logits -> the most probable labels. Knows nothing of HTTP."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar, cast

from app.decoding.cost_checks import TakesLong
from app.decoding.decoder import decode
from app.decoding.raw_pixels import with_channels
from app.engine.engine import Engine
from app.engine.runners import Patches
from app.errors import DeadlinePassed, InferenceFailed, OutOfMemory, ServiceError, forget_frames
from app.inference.admission import Limits
from app.inference.answer import Certainty, Prediction, Wanted, certainty_of, predictions_of
from app.inference.batcher import BACKGROUND_SHARE, Batcher
from app.inference.executor import Executor
from app.inference.permits import BackgroundPermits, Permit
from app.inference.scores import NoEmbedding, Scores
from app.inference.traced_runs import TracedRuns
from app.inference.undecoded import Decoding, Undecoded, is_soon_decoded
from app.inference.waiters import Answered
from app.system.quota import Quota
from app.telemetry.drift import Window
from app.telemetry.metrics import Metrics
from app.telemetry.model_metrics import ModelMetrics
from app.telemetry.tracing import CURRENT, Emit, RunTracing, Trace
from model.preprocess import Pixels, smallest_useful_side, to_patches

# What has no more of these is decoded first: the largest take hundreds of times as long.
_SMALL_BYTES, _LITTLE_WORK = 100_000, 2_000_000

log = logging.getLogger("mixer.classifier")


Decoded = TypeVar("Decoded")
Item = Patches | Undecoded
ImagePermit = Permit[Item, Scores]
Picture = bytes | Pixels  # a picture file, or pixels uint8 [H, W, 1 or 3]
Watcher = Callable[[Picture, Patches, "Classified"], None]


class Classified(NamedTuple):
    """Predictions, most probable first, how sure they are, and seconds in decode, queue and infer."""

    predictions: list[Prediction]
    certainty: Certainty
    scores: Scores
    seconds: Mapping[str, float]
    batch_size: int


class Expected(NamedTuple):
    """The permit of an image that is on its way, and the classifier that gave it."""

    classifier: "Classifier"
    permit: ImagePermit

    def release(self) -> None:
        """Make room for another."""
        self.permit.release()


class Classifier:
    """Decodes in threads, runs on the engine's instances, and lets the batcher decide what runs together.

    Nothing that it holds holds it, so that the engine's memory is free as soon as nobody needs the classifier.
    background_window: how many pictures in the background keep it busy.
    `permits`: those that it has with other classifiers together; else queue_capacity of its own. `background`: of
    these, those that work in the background may have; else half.
    `window`: remembers its last answers; None where there is nothing to compare them with. `watcher`: is told of every
    picture that was classified for somebody, in microseconds. `emit`: takes the spans of its runs, where requests are
    traced.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        limits: Limits,
        decoding: Decoding,
        metrics: Metrics | ModelMetrics,
        permits: Quota | None = None,
        background: Quota | None = None,
        window: Window | None = None,
        watcher: Watcher | None = None,
        emit: Emit | None = None,
    ) -> None:
        self.engine = engine
        self.window, self._watcher = window, watcher
        self.spec = engine.spec
        self.max_batch_size = limits.max_batch_size
        self.named = {"name": engine.spec.name, "version": engine.spec.version, "precision": engine.precision}
        self.decoding = decoding
        self._useful_side = smallest_useful_side(engine.spec)
        self._metrics = metrics
        runs = 2 * limits.instances * max(1, limits.max_batch_size // BACKGROUND_SHARE)
        self.background_window = max(1, min(limits.queue_capacity // 4, runs + 2 * decoding.threads.count))
        self.count_request = metrics.classified_request  # all pictures of a request have been classified
        # With more threads to a run or to decode, or on a GPU, others could compute meanwhile.
        self._decodes_in_runs = (
            engine.provider == "cpu" and engine.intra_op_threads == 1 and decoding.threads.count <= limits.instances
        )
        self._executor = Executor(engine, metrics, decoding.decode)
        self.batcher: Batcher[Item, Scores] = Batcher(
            self._executor.run, limits, metrics, clock=time.perf_counter, permits=permits, background=background,
            on_traced_run=None if emit is None else TracedRuns(RunTracing(emit, self.named), self._executor),
        )  # fmt: skip

    def expect_embedding(self) -> int:
        """How many numbers the embedding of a picture has. Raises NoEmbedding where the graph gives none."""
        if self.engine.embedding_dim is None:
            raise NoEmbedding(
                f"{self.spec.name} has no output 'embedding'; expected a bundle exported by this version or later."
            )
        return self.engine.embedding_dim

    def admit(self, count: int = 1, *, deadline: float = math.inf) -> "Permits":
        """Permits for `count` pictures, all or none, that can be answered by `deadline` (the event loop's clock).

        Raises: QueueFull, NotReady while draining.
        """
        try:
            return Permits(self.batcher.admit_all(count, deadline))
        except ServiceError as error:
            self._metrics.lost(error.code, count)
            raise

    def expect(self, deadline: float) -> "Expected":
        """A permit for an image that is on its way. Raises as admit does."""
        try:
            return Expected(self, self.batcher.admit(deadline, here=False))
        except ServiceError as error:
            self._metrics.lost(error.code)
            raise

    def admit_in_background(self, deadline: float) -> "BackgroundPermits[Item, Scores]":
        """A permit for a picture that all others go before. Raises as admit does, and counts nothing as lost."""
        return self.batcher.admit_in_background(1, deadline)

    async def classify(
        self,
        permit: "ImagePermit | BackgroundPermits[Item, Scores]",
        payload: Picture,
        *,
        wanted: Wanted,
        deadline: float,
        patient: bool = False,
        client: Hashable = None,
        is_counted: bool = True,
    ) -> Classified:
        """What is wanted of one picture, until `deadline` (the event loop's clock).

        A patient one lets others be decoded first, a few dozen at most; large ones are patient anyway. `client`: whose
        pictures take turns with those of others. `is_counted`: whether the metrics hear what became of it.

        Raises: ServiceError of the kind that fits (errors.py).
        """
        try:
            patches, decode_s, answered = await self._run(permit, payload, deadline, client, patient=patient)
            if math.isnan(answered.answer.probabilities[0]):
                raise InferenceFailed("The logits of this picture are not all finite numbers. This is a bug.")
        except (ServiceError, asyncio.CancelledError) as error:
            if is_counted:
                self._metrics.lost(error.code if isinstance(error, ServiceError) else "client_gone")
            raise
        scores = answered.answer
        predictions = predictions_of(self.spec, scores, wanted.top_k)
        certainty = certainty_of(self.spec, scores, wanted)
        seconds = {"decode": decode_s, "queue": answered.queue_s, "infer": answered.infer_s}
        if is_counted:
            best = predictions[0]
            self._metrics.classified(best["label"], best["probability"], seconds, certainty.get("uncertain", False))
            if self.window is not None:
                self.window.answers.append((best["index"], best["probability"], scores.energy))
        classified = Classified(predictions, certainty, scores, seconds, answered.batch_size)
        if self._watcher is not None and is_counted:
            self._watcher(payload, patches, classified)
        return classified

    async def _run(
        self,
        permit: "ImagePermit | BackgroundPermits[Item, Scores]",
        payload: Picture,
        deadline: float,
        client: Hashable,
        *,
        patient: bool,
    ) -> tuple[Patches, float, Answered[Scores]]:
        """The picture's patches, the seconds that decoding took, and what its run says."""
        work, waited_s = partial(self._decode, CURRENT.get()), 0.0
        if self._decodes_in_runs and not patient and isinstance(payload, bytes) and is_soon_decoded(payload):
            picture, began = Undecoded(payload, partial(work, in_run=True), self._overrun), time.perf_counter()
            picture.answer = permit.answer(picture, deadline)
            try:
                answered = await self._answered(picture.answer)
            except TakesLong as error:  # a thread of its own does it
                forget_frames(error)
                waited_s = time.perf_counter() - began
            else:
                waited_s = max(0.0, answered.queue_s - picture.decode_s)
                return cast(Patches, picture.patches), picture.decode_s, answered._replace(queue_s=waited_s)
        patches, decode_s = await self.decoded(work, payload, deadline, client, patient=patient)
        answered = await self._answered(permit.answer(patches, deadline))
        return patches, decode_s, answered._replace(queue_s=waited_s + answered.queue_s) if waited_s else answered

    async def _answered(self, answer: "asyncio.Future[Answered[Scores]]") -> Answered[Scores]:
        try:
            return await answer
        except asyncio.CancelledError:
            self._client_gone(answer)
            raise
        except (ServiceError, TakesLong):
            raise
        except Exception as error:
            log.exception("the engine failed on a picture")
            raise InferenceFailed("The engine failed on this picture; the service's log says why.") from error

    def _overrun(self, picture: Undecoded, error: Exception) -> None:
        """Decoding it does not end: nothing becomes of its run, and where there is one instance, of any other."""
        self.batcher.fail_run(picture, error)
        if self.engine.instances == 1:
            self._ending = asyncio.get_running_loop().create_task(self.batcher.close(0.0))

    def _client_gone(self, answer: "asyncio.Future[Answered[Scores]]") -> None:
        if not answer.cancelled() and answer.exception() is None:  # it came in this very turn
            self._metrics.dropped("infer", "client_gone")

    async def until_free(self) -> None:
        """Until a picture more would take time from none that is here: see Batcher.until_free."""
        await self.batcher.until_free(max(self.engine.instances, self.decoding.threads.count))

    def stuck_s(self) -> float:
        """For how many seconds the longest run under way has run; 0 where none is."""
        return self._executor.busy_s()

    async def decoded(
        self,
        work: Callable[[Picture, float], Decoded],
        payload: Picture,
        deadline: float,
        client: Hashable = None,
        *,
        patient: bool,
    ) -> Decoded:
        """What `work` makes of the picture in a thread that decodes, tried first with little work for a small picture.

        work: called with the picture and the most work that it may take, as of `decode`. Raises: DeadlinePassed, and
        what `work` raises.
        """
        threads, size = self.decoding.threads, len(payload) if isinstance(payload, bytes) else payload.nbytes
        patient = patient or size > _SMALL_BYTES
        most_work = math.inf if patient else _LITTLE_WORK
        decoded = threads.submit(partial(work, payload, most_work), patient=patient, client=client, payload_bytes=size)
        timer = asyncio.get_running_loop().call_at(deadline, self._give_up, decoded)
        try:
            return await decoded
        except TakesLong:
            return await self.decoded(work, payload, deadline, client, patient=True)
        except asyncio.CancelledError:
            self._metrics.dropped("decode", "client_gone")
            raise
        finally:
            timer.cancel()

    def _give_up(self, decoded: "asyncio.Future[Decoded]") -> None:
        if not decoded.done():
            self._metrics.dropped("decode", "deadline")
            decoded.set_exception(DeadlinePassed("The picture was not decoded before its deadline."))

    def pixels_of(self, payload: Picture, most_work: float, *, in_run: bool = False) -> Pixels:
        """The picture as uint8 [H, W, C], no larger than the model has a use for. Raises as `decode`.

        in_run: whether a run waits for it, which does not wait for memory.
        """
        limits = self.decoding.limits_in_runs if in_run else self.decoding.limits
        channels = self.spec.channels
        if isinstance(payload, bytes):
            return decode(payload, channels, self._useful_side, limits, most_work)
        return with_channels(payload, channels, limits.max_pixels)

    def _decode(
        self, trace: Trace | None, payload: Picture, most_work: float, *, in_run: bool = False
    ) -> tuple[Patches, float]:
        """The patches, and the seconds that they took; `trace` is told of these, too."""
        started = time.perf_counter()
        try:
            pixels = self.pixels_of(payload, most_work, in_run=in_run)
        except ServiceError:
            if trace is not None:
                trace.decoded(self.named, started, time.perf_counter() - started)
            raise
        try:
            patches = to_patches(pixels, self.spec)
        except MemoryError:
            raise OutOfMemory("The picture was not resized: the service has no memory left for it.") from None
        decode_s = time.perf_counter() - started
        if trace is not None:
            trace.decoded(self.named, started, decode_s)
        return patches, decode_s


class Permits:
    """Permits that are held inside a with statement."""

    def __init__(self, permits: Sequence[ImagePermit]) -> None:
        self._permits = permits

    def __enter__(self) -> Sequence[ImagePermit]:
        return self._permits

    def __exit__(self, *error: object) -> None:
        for permit in self._permits:
            permit.release()
