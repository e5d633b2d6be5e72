"""POST /classify and /classify/batch. HTTP only: bodies in, JSON and problem+json out."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response

from app.api import descriptions
from app.api.descriptions import TIMEOUT
from app.api.endpoint import add
from app.api.info import expect_key
from app.errors import BadParameter, ServiceError, forget_frames
from app.http.api_keys import ApiKeys
from app.http.body import BodyLimits, read_image, read_images
from app.http.dispatcher import HELD, Application, AsgiEndpoint
from app.http.in_flight import InFlight
from app.http.multipart import Upload
from app.http.request_log import Access, timing_of
from app.http.upload_budget import BodyReservation, UploadBudget
from app.inference.answer import Asked, Wanted, wanted_of
from app.inference.classifier import Classifier, Expected, ImagePermit
from app.serving.registry import Models
from app.telemetry.metrics import Metrics

_IMPATIENT = 8  # pictures of a batch; the others let those of other clients be decoded first


@dataclass(frozen=True)
class Routes:
    """The endpoints for pictures over the collaborators they need."""

    models: Models
    in_flight: InFlight
    metrics: Metrics
    keys: ApiKeys
    body_limits: BodyLimits
    budget: UploadBudget
    timeout_s: float

    def add_to(self, app: Application) -> None:
        """Add both endpoints, and dispatch their requests to them."""
        one = AsgiEndpoint("/classify", self.classify, descriptions.CLASSIFY_PARAMETERS, self.in_flight)
        many = AsgiEndpoint("/classify/batch", self.classify_batch, descriptions.CLASSIFY_PARAMETERS, self.in_flight)
        router = APIRouter()
        for endpoint, operation, handler in (
            (one, descriptions.CLASSIFY, self.classify),
            (many, descriptions.CLASSIFY_BATCH, self.classify_batch),
        ):
            add(
                router, endpoint.path, endpoint.described, operation,
                method="POST", description=handler.__doc__, needs_key=self.keys.locked,
            )  # fmt: skip
            app.dispatch("POST", endpoint.path, Access(endpoint, self.metrics))
        app.include_router(router)

    async def classify(self, request: Request, model: str | None = None, **asked: Unpack[Asked]) -> Response:
        """One picture as the multipart field `file` or as the raw body, in any accepted format."""
        if self.keys.locked:
            expect_key(self.keys, request)
        timing, clients_deadline = timing_of(request.scope), self._clients_deadline(request)
        expected: Expected | None = request.scope.get(HELD)
        if expected is None or (model is not None and self.models.classifier(model) is not expected.classifier):
            expected = self._expect(request, model, clients_deadline)
        wanted = wanted_of(expected.classifier.spec, asked)
        with BodyReservation(self.budget) as reservation:
            payload = await read_image(request, self.body_limits, reservation)
            timing.received()
            deadline = min(clients_deadline, self._deadline())
            if not expected.permit.arrive():
                expected = self._expect(request, model, deadline)
                wanted = wanted_of(expected.classifier.spec, asked)
                expected.permit.arrive()
            classifier = expected.classifier
            classified = await classifier.classify(expected.permit, payload, wanted=wanted, deadline=deadline)
        timing.stages |= classified.seconds
        timing.batch_size = classified.batch_size
        return _json({"model": classifier.named, "predictions": classified.predictions, **classified.certainty})

    async def classify_batch(self, request: Request, model: str | None = None, **asked: Unpack[Asked]) -> Response:
        """Every multipart field `file` is a picture. Answers come in the same order."""
        if self.keys.locked:
            expect_key(self.keys, request)
        wanted_of(self.models.classifier(model).spec, asked)
        timing, clients_deadline = timing_of(request.scope), self._clients_deadline(request)
        with BodyReservation(self.budget) as reservation:
            uploads = await read_images(request, self.body_limits, reservation)
            timing.received()
            deadline = min(clients_deadline, self._deadline())
            classifier = self.models.classifier(model)  # which may be another one by now
            wanted = wanted_of(classifier.spec, asked)
            with classifier.admit(len(uploads), deadline=deadline) as permits:
                entries = (
                    _entry(classifier, permit, upload, wanted, deadline, patient=before >= _IMPATIENT, client=request)
                    for before, (permit, upload) in enumerate(zip(permits, uploads, strict=True))
                )
                results = await asyncio.gather(*entries)
        timing.errors = _errors_in(results)
        return _json({"model": classifier.named, "results": results})

    def _expect(self, request: Request, model: str | None, deadline: float) -> Expected:
        """A permit for the image of this request, until it is answered. The one it had before is free again."""
        if HELD in request.scope:
            request.scope[HELD].release()
        expected = self.models.classifier(model).expect(min(deadline, self._deadline()))
        request.scope[HELD] = expected
        return expected

    def _deadline(self) -> float:
        """The service's own deadline for a request whose body has arrived, in the event loop's time."""
        return asyncio.get_running_loop().time() + self.timeout_s

    def _clients_deadline(self, request: Request) -> float:
        """What the client says itself, counted from the first byte; infinite where it says nothing.

        Raises: BadParameter.
        """
        said = request.headers.get(TIMEOUT)
        if said is None:
            return math.inf
        try:
            timeout_ms = float(said)
        except ValueError:
            timeout_ms = math.nan
        if not timeout_ms > 0:
            raise BadParameter(f"{TIMEOUT} is {said!r}; expected milliseconds, more than 0.")
        passed_s = time.perf_counter() - timing_of(request.scope).started
        return asyncio.get_running_loop().time() - passed_s + timeout_ms / 1000


async def _entry(
    classifier: Classifier,
    permit: ImagePermit,
    upload: Upload,
    wanted: Wanted,
    deadline: float,
    *,
    patient: bool,
    client: Request,
) -> dict[str, object]:
    try:
        classified = await classifier.classify(
            permit, upload.payload, wanted=wanted, deadline=deadline, patient=patient, client=client
        )
    except ServiceError as error:
        forget_frames(error)
        return {"filename": upload.filename, "error": {"code": error.code, "detail": error.detail}}
    return {"filename": upload.filename, "predictions": classified.predictions, **classified.certainty}


def _errors_in(results: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
    """How many entries of a batch failed, by code."""
    return dict(Counter(entry["error"]["code"] for entry in results if "error" in entry))


def _json(body: dict[str, object]) -> Response:
    return Response(to_json(body), media_type="application/json")
