"""POST /classify and /classify/batch. HTTP only: bodies in, JSON and problem+json out."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response

from app.api import descriptions
from app.api.classification import Classification
from app.api.endpoint import add
from app.errors import ServiceError
from app.http.body import read_image, read_images
from app.http.dispatcher import HELD, Application, AsgiEndpoint
from app.http.request_log import timing_of
from app.http.upload_budget import BodyReservation
from app.inference.answer import Asked, wanted_of
from app.inference.classifier import Classified, Classifier, Expected


@dataclass(frozen=True)
class Routes:
    """The endpoints for pictures."""

    classification: Classification

    def add_to(self, app: Application) -> None:
        """Add both endpoints, and dispatch their requests to them."""
        in_flight = self.classification.in_flight
        one = AsgiEndpoint("/classify", self.classify, descriptions.CLASSIFY_PARAMETERS, in_flight)
        many = AsgiEndpoint("/classify/batch", self.classify_batch, descriptions.CLASSIFY_PARAMETERS, in_flight)
        router = APIRouter()
        for endpoint, operation, handler in (
            (one, descriptions.CLASSIFY, self.classify),
            (many, descriptions.CLASSIFY_BATCH, self.classify_batch),
        ):
            add(
                router, endpoint.path, endpoint.described, operation,
                method="POST", description=handler.__doc__, needs_key=self.classification.keys.locked,
            )  # fmt: skip
            app.dispatch("POST", endpoint.path, self.classification.access(endpoint))
        app.include_router(router)

    async def classify(self, request: Request, model: str | None = None, **asked: Unpack[Asked]) -> Response:
        """One picture as the multipart field `file` or as the raw body, in any accepted format."""
        classification = self.classification
        if classification.keys.locked:
            classification.expect_key(request)
        timing, clients_deadline = timing_of(request.scope), classification.clients_deadline(request)
        expected: Expected | None = request.scope.get(HELD)
        is_any = model is None and classification.rollout is None  # whichever the permit is of
        if expected is None or (not is_any and self._classifier(request, model) is not expected.classifier):
            expected = classification.expect(request, self._classifier(request, model), clients_deadline)
        wanted = wanted_of(expected.classifier.spec, asked)
        with BodyReservation(classification.budget) as reservation:
            payload = await read_image(request, classification.body_limits, reservation)
            timing.received()
            deadline = min(clients_deadline, classification.deadline())
            if not expected.permit.arrive():
                expected = classification.expect(request, self._classifier(request, model), deadline)
                wanted = wanted_of(expected.classifier.spec, asked)
                expected.permit.arrive()
            classifier = expected.classifier  # asked here and not by classify_one: a coroutine less to enter again
            classified = await classifier.classify(expected.permit, payload, wanted=wanted, deadline=deadline)
        classifier.count_request(classified.seconds)
        if classification.collection is not None:
            classification.collection.offer(timing.request_id, classifier, payload, classified)
        timing.stages |= classified.seconds
        timing.batch_size = classified.batch_size
        return _json({"model": classifier.named, "predictions": classified.predictions, **classified.certainty})

    async def classify_batch(self, request: Request, model: str | None = None, **asked: Unpack[Asked]) -> Response:
        """Every multipart field `file` is a picture. Answers come in the same order."""
        classification = self.classification
        classification.expect_key(request)
        wanted_of(self._classifier(request, model).spec, asked)
        clients_deadline = classification.clients_deadline(request)
        with classification.reserve() as reservation:
            uploads = await read_images(request, classification.body_limits, reservation)
            timing = timing_of(request.scope)
            timing.received()
            deadline = min(clients_deadline, classification.deadline())
            classifier = self._classifier(request, model)  # which may be another one by now
            wanted = wanted_of(classifier.spec, asked)
            payloads = [upload.payload for upload in uploads]
            answers = await classification.classify_all(request, classifier, payloads, wanted, deadline)
        timing.errors = _errors_in(answers)
        results = [
            {"filename": upload.filename, **_entry(answer)} for upload, answer in zip(uploads, answers, strict=True)
        ]
        return _json({"model": classifier.named, "results": results})

    def _classifier(self, request: Request, model: str | None) -> Classifier:
        return self.classification.asked(request, model).classifier


def _entry(answer: Classified | ServiceError) -> dict[str, object]:
    if isinstance(answer, ServiceError):
        return {"error": {"code": answer.code, "detail": answer.detail}}
    return {"predictions": answer.predictions, **answer.certainty}


def _errors_in(answers: Iterable[Classified | ServiceError]) -> Mapping[str, int]:
    """How many entries of a batch failed, by code."""
    return dict(Counter(answer.code for answer in answers if isinstance(answer, ServiceError)))


def _json(body: dict[str, Any]) -> Response:
    return Response(to_json(body), media_type="application/json")
