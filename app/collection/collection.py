"""Keeps the pictures that rules choose, and takes their true labels. Never in the way of an answer, nor its reason.

Knows nothing of HTTP.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import get_args

from app.collection.folder import Corrected, Folder
from app.collection.picture import as_file, held, size_of
from app.collection.record import Outcome, Record, name_of
from app.collection.rules import Rules
from app.collection.writer import Writer
from app.errors import DeadlinePassed, NotReady, QueueFull, ServiceError
from app.inference.answer import predictions_of
from app.inference.classifier import Classified, Classifier, Picture
from app.telemetry.instruments import Number
from app.telemetry.metrics import Metrics

MOST_WAITING, MOST_WAITING_BYTES = 256, 64 << 20  # pictures of a process that are to be written
_MOST_PREDICTIONS = 5
_TIDY_S = 600.0
REST_S = 1.0  # after a picture that the disk refused: each try costs the answers of others


class UnknownRequest(ServiceError):
    """No picture is kept of a request with this id."""

    status, code, title = 404, "unknown_request", "Unknown request"


class Collection:
    """One process's part of it. `clock`: seconds, which never go back."""

    def __init__(
        self, rules: Rules, folder: Folder, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rules, self._folder, self._metrics, self._clock = rules, folder, metrics, clock
        self._rests_until = -math.inf
        # Named here: a name is added to the shared memory by one thread only, and the writer's counts, too.
        self._outcomes: Mapping[Outcome, Number] = {one: metrics.collected.labels(one) for one in get_args(Outcome)}
        self._writer = Writer(MOST_WAITING, MOST_WAITING_BYTES, self._tidy, _TIDY_S)

    def offer(
        self, request_id: str, classifier: Classifier, picture: Picture, classified: Classified, index: int = 0
    ) -> None:
        """Have the picture kept if a rule chooses it. Takes microseconds, and raises nothing that a disk may cause."""
        spec, energy, best = classifier.spec, classified.scores.energy, classified.predictions[0]
        uncertain = None if spec.energy_threshold is None else energy < spec.energy_threshold
        chosen_by = self._rules.choosing(best["label"], best["probability"], uncertain=bool(uncertain))
        if not chosen_by:
            return
        if self._clock() < self._rests_until:
            self._outcomes["dropped_failing"].inc()
            return
        size_bytes = size_of(picture)
        try:
            kept = held(picture) if self._writer.has_room(size_bytes) else None
        except MemoryError:
            kept = None
        if kept is None:
            self._outcomes["dropped_full"].inc()
            return
        answer = {
            "time": self._folder.now(),
            "request_id": request_id,
            "index": index,
            "model": classifier.named,
            "predictions": predictions_of(spec, classified.scores, _MOST_PREDICTIONS),
            "uncertain": uncertain,
            "energy": energy,
            "chosen_by": chosen_by,
        }
        self._writer.put(partial(self._keep, answer, kept), size_bytes)

    async def correct(self, request_id: str, index: int, label: str, timeout_s: float) -> Corrected:
        """Write a kept picture's true label beside it, behind what is to be written of this process, and count it.

        Raises: UnknownRequest, QueueFull, NotReady where the folder cannot be used, DeadlinePassed.
        """
        if not self._writer.has_room(0):
            raise QueueFull(f"{MOST_WAITING} pictures wait to be written; expected fewer. Try again in 1 s.", 1)
        found: Future[Corrected | None] = Future()
        self._writer.put(partial(_told, found, partial(self._folder.correct, request_id, index, label)), 0)
        try:
            async with asyncio.timeout(timeout_s):
                corrected = await asyncio.wrap_future(found)
        except TimeoutError:
            raise DeadlinePassed(f"The folder of kept pictures did not answer within {timeout_s:g} s.") from None
        except OSError as error:
            raise NotReady(f"The label was not written: {error.strerror}. Try again later.") from error
        if corrected is None:
            raise UnknownRequest(
                f"No picture is kept as {name_of(request_id, index)}; expected the X-Request-ID of an answer whose "
                "picture a rule chose, and its position in the request."
            )
        if corrected.is_first:
            outcome = "right" if corrected.record.predictions[0].label == label else "wrong"
            self._metrics.feedback.labels(corrected.record.model.name, outcome).inc()
        return corrected

    def close(self) -> None:
        """Finish what waits, as far as that takes no longer than a moment."""
        self._writer.close()

    def _keep(self, answer: Mapping[str, object], picture: Picture) -> None:
        outcome: Outcome = "failed"
        try:
            content, ending = as_file(picture)
            named = f"{answer['request_id']}-{answer['index']}.{ending}"
            outcome = self._folder.keep(Record.model_validate({**answer, "picture": named}), content)
        except OSError:
            self._rests_until = self._clock() + REST_S
            raise
        finally:
            self._outcomes[outcome].inc()

    def _tidy(self) -> None:
        self._folder.tidy()


def _told(found: "Future[Corrected | None]", correct: Callable[[], Corrected | None]) -> None:
    """Hand over what the work found, or its error, if anybody waits for it."""
    if found.set_running_or_notify_cancel():
        try:
            found.set_result(correct())
        except Exception as error:
            found.set_exception(error)
            raise
