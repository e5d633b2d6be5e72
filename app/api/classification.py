"""What every way to ask about images shares: key, deadline, permits, answers in order. Knows no format of requests."""

import asyncio
import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from starlette.types import ASGIApp, Scope

from app.collection.collection import Collection
from app.errors import BadParameter, ServiceError, forget_frames
from app.http.api_keys import ApiKeys
from app.http.body import BodyLimits
from app.http.dispatcher import HELD
from app.http.in_flight import InFlight
from app.http.request_log import Access, timing_of
from app.http.upload_budget import BodyReservation, UploadBudget
from app.inference.answer import Wanted
from app.inference.classifier import Classified, Classifier, Expected, ImagePermit, Picture
from app.serving.registry import Model, Models
from app.shadow.rollout import Rollout
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing

TIMEOUT = "X-Request-Timeout-Ms"
_TIMEOUT = TIMEOUT.lower()
CLIENT_ID = "X-Client-ID"
_CLIENT_ID = CLIENT_ID.lower()
_IMPATIENT = 8  # pictures of a batch; the others let those of other clients be decoded first


class Asker(Hashable, Protocol):
    """A request, by whatever protocol it came: headers by their names in lower case, and a scope with its timing."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What it says of itself."""
        ...

    @property
    def scope(self) -> Scope:
        """What the service keeps of it."""
        ...


def expect_key(keys: ApiKeys, request: Asker, api_key: str | None = None) -> None:
    """Let in who has one of the keys, under its name, or everyone where there are none. Raises BadApiKey.

    `api_key`: one that is shown elsewhere than in the headers, which win over it.
    """
    if keys.locked:
        headers = request.headers
        key = keys.expect_known(headers.get("authorization"), headers.get("x-api-key", api_key))
        timing_of(request.scope).key = key


@dataclass(frozen=True)
class Classification:
    """The collaborators of a request about images, and what they do for one in whatever form it comes."""

    models: Models
    in_flight: InFlight
    metrics: Metrics
    keys: ApiKeys
    body_limits: BodyLimits
    budget: UploadBudget
    timeout_s: float
    collection: Collection | None = None  # None: no picture is kept
    rollout: Rollout | None = None  # None: no second model answers a share of requests
    tracing: Tracing | None = None  # None: no request is traced

    def access(self, app: ASGIApp) -> Access:
        """What is around an endpoint that requests are dispatched to: id, log line, metrics and traces."""
        return Access(app, self.metrics, self.tracing)

    def expect_key(self, request: Asker, api_key: str | None = None) -> None:
        """As the function of this name, with the service's keys."""
        expect_key(self.keys, request, api_key)

    def asked(self, request: Asker, name: str | None, version: str | None = None) -> Model:
        """The model for a request: as Models.asked, or a second one that answers some clients that name none.

        For a request it is always the same, as long as that one may answer. Raises: UnknownModel.
        """
        if self.rollout is not None and name is None and version is None:
            model = self.rollout.model_for(_client_of(request))
            if model is not None:
                return model
        return self.models.asked(name, version)

    def reserve(self) -> BodyReservation:
        """What the body of a request will take of the bytes that the service holds."""
        return BodyReservation(self.budget)

    def deadline(self) -> float:
        """The service's own for a request whose body has arrived, in the event loop's time."""
        return asyncio.get_running_loop().time() + self.timeout_s

    def clients_deadline(self, request: Asker) -> float:
        """What the client says itself, counted from the first byte; infinite where it says nothing.

        Raises: BadParameter.
        """
        said = request.headers.get(_TIMEOUT)
        if said is None:
            return math.inf
        try:
            timeout_ms = float(said)
        except ValueError:
            timeout_ms = math.nan
        if not timeout_ms > 0:
            raise BadParameter(f"{TIMEOUT} is {said!r}; expected milliseconds, more than 0.")
        return self.within(request, timeout_ms / 1000)

    def within(self, request: Asker, timeout_s: float) -> float:
        """When so many seconds will have passed since the first byte, in the event loop's time."""
        passed_s = time.perf_counter() - timing_of(request.scope).started
        return asyncio.get_running_loop().time() - passed_s + timeout_s

    def expect(self, request: Asker, classifier: Classifier, deadline: float) -> Expected:
        """A permit for the image of this request, until it is answered. The one it had before is free again.

        Raises: QueueFull, NotReady.
        """
        self.release(request)
        expected = classifier.expect(min(deadline, self.deadline()))
        request.scope[HELD] = expected
        return expected

    def release(self, request: Asker) -> None:
        """Give back the permit that the head of a request has got, where the request takes others itself."""
        if HELD in request.scope:
            request.scope.pop(HELD).release()

    async def classify_one(
        self, request: Asker, expected: Expected, picture: Picture, wanted: Wanted, deadline: float
    ) -> Classified:
        """The answer about the one picture of a request, whose permit is here. Raises ServiceError."""
        classified = await expected.classifier.classify(expected.permit, picture, wanted=wanted, deadline=deadline)
        timing = timing_of(request.scope)
        timing.stages |= classified.seconds
        timing.batch_size = classified.batch_size
        expected.classifier.count_request(classified.seconds)
        if self.collection is not None:
            self.collection.offer(timing.request_id, expected.classifier, picture, classified)
        return classified

    async def classify_all(
        self, request: Asker, classifier: Classifier, pictures: Sequence[Picture], wanted: Wanted, deadline: float
    ) -> list[Classified | ServiceError]:
        """An answer or an error about each picture, in order; all are let in, or none.

        Raises: QueueFull, NotReady.
        """

        request_id, collection = timing_of(request.scope).request_id, self.collection

        async def one(permit: ImagePermit, picture: Picture, before: int) -> Classified | ServiceError:
            try:
                classified = await classifier.classify(
                    permit, picture, wanted=wanted, deadline=deadline, patient=before >= _IMPATIENT, client=request
                )
            except ServiceError as error:
                forget_frames(error)
                return error
            if collection is not None:
                collection.offer(request_id, classifier, picture, classified, before)
            return classified

        with classifier.admit(len(pictures), deadline=deadline) as permits:
            each = zip(permits, pictures, strict=True)
            answers = await asyncio.gather(*(one(permit, picture, at) for at, (permit, picture) in enumerate(each)))
        classified = [answer for answer in answers if not isinstance(answer, ServiceError)]
        if len(classified) == len(answers):
            stages = classified[0].seconds
            classifier.count_request({stage: fmean(one.seconds[stage] for one in classified) for stage in stages})
        return answers


def _client_of(request: Asker) -> str:
    """By what it is told from others: what it calls itself, beside its key; else its key, or each request by its id."""
    timing, client = timing_of(request.scope), request.headers.get(_CLIENT_ID)
    return f"{timing.key}/{client}" if client is not None else timing.key or timing.request_id
