"""HTTP only: bodies in, JSON and problem+json out."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response

from app.api import descriptions, security
from app.api.descriptions import TIMEOUT
from app.api.openapi import CLASSIFICATION, HEALTH, MODELS
from app.api.schemas import (
    FullLimitsBody,
    LiveBody,
    ModelBody,
    PublicModelBody,
    PublicReadyBody,
    ReadyBody,
)
from app.errors import BadParameter, ServiceError, forget_frames
from app.http.api_keys import ApiKeys
from app.http.body import BodyLimits, read_picture, read_pictures
from app.http.disconnect import while_connected
from app.http.dispatcher import Application, Direct, expect_known
from app.http.in_flight import Drain
from app.http.multipart import Upload
from app.http.request_log import Access, timing_of
from app.http.upload_budget import Cargo, Hold
from app.inference.classifier import Classifier, PicturePlace
from app.serving.health import Health
from app.serving.registry import Models, ModelsBody
from app.telemetry.metrics import Metrics

T = TypeVar("T")

_IMPATIENT = 8  # pictures of a batch; the others let those of other clients be decoded first


@dataclass(frozen=True)
class Routes:
    """The endpoints over the collaborators they need."""

    models: Models
    health: Health
    drain: Drain
    metrics: Metrics
    keys: ApiKeys
    limits: FullLimitsBody
    body_limits: BodyLimits
    hold: Hold

    def add_to(self, app: Application, *, reticent: bool = False) -> None:
        """Every endpoint of the service, those for pictures with a shortcut. Reticent: without what operators know."""
        one = Direct("/classify", self.classify, top_k=int | None, model=str)
        many = Direct("/classify/batch", self.classify_batch, top_k=int | None, model=str)
        app.include_router(self._for_pictures(one, many))
        app.include_router(self._for_questions(PublicModelBody, PublicReadyBody) if reticent else self.for_operators())
        for direct in (one, many):
            app.add_shortcut("POST", direct.path, Access(direct, self.metrics))

    def for_operators(self) -> APIRouter:
        """What runs here and how it is, in full."""
        return self._for_questions(ModelBody, ReadyBody)

    def _for_pictures(self, one: Direct, many: Direct) -> APIRouter:
        router = APIRouter()
        router.add_api_route(
            one.path,
            one.answer,
            methods=["POST"],
            summary="Classify one picture",
            description=self.classify.__doc__,
            operation_id="classify",
            responses=descriptions.CLASSIFY,
            tags=[CLASSIFICATION],
            dependencies=security.either(),
            openapi_extra=descriptions.one_picture() | self._security,
        )
        router.add_api_route(
            many.path,
            many.answer,
            methods=["POST"],
            summary="Classify many pictures; a bad one spoils only its own entry",
            description=self.classify_batch.__doc__,
            operation_id="classify_batch",
            responses=descriptions.CLASSIFY_BATCH,
            tags=[CLASSIFICATION],
            dependencies=security.either(),
            openapi_extra=descriptions.many_pictures() | self._security,
        )
        return router

    def _for_questions(self, model: type[PublicModelBody], ready: type[PublicReadyBody]) -> APIRouter:
        router = APIRouter()
        router.add_api_route(
            "/model",
            self.model,
            response_model=model,
            summary="What answers here",
            operation_id="get_model",
            responses=descriptions.MODEL,
            tags=[MODELS],
            dependencies=security.either(),
            openapi_extra=descriptions.MODEL_PARAMETERS | self._security,
        )
        router.add_api_route(
            "/models",
            self.list_models,
            response_model=ModelsBody,
            summary="Every bundle that is served here",
            operation_id="list_models",
            responses=descriptions.LIST_MODELS,
            tags=[MODELS],
            dependencies=security.either(),
            openapi_extra=self._security,
        )
        router.add_api_route(
            "/health/live",
            self.live,
            response_model=LiveBody,
            summary="200 while the process can answer",
            operation_id="live",
            responses=descriptions.LIVE,
            tags=[HEALTH],
        )
        router.add_api_route(
            "/health/ready",
            self.ready,
            response_model=ready,
            summary="200 while a stored picture gets its stored answer",
            operation_id="ready",
            responses=descriptions.READY,
            tags=[HEALTH],
        )
        for path, endpoint, body in (("/health/live", self.live, LiveBody), ("/health/ready", self.ready, ready)):
            router.add_api_route(path, endpoint, methods=["HEAD"], response_model=body, include_in_schema=False)
        return router

    @property
    def _security(self) -> dict[str, Any]:
        return security.or_none(needed=self.keys.locked)

    async def classify(self, request: Request, top_k: int | None = None, model: str | None = None) -> Response:
        """One picture as the multipart field `file` or as the raw body, in any accepted format."""
        with self.drain.enter(), self.hold.cargo() as cargo:
            return await self._classify_one(request, cargo, top_k, model)

    async def classify_batch(self, request: Request, top_k: int | None = None, model: str | None = None) -> Response:
        """Every multipart field `file` is a picture. Answers come in the same order."""
        with self.drain.enter(), self.hold.cargo() as cargo:
            return await self._classify_many(request, cargo, top_k, model)

    async def model(self, request: Request) -> ModelBody:
        """The ModelSpec, what runs it, and the limits a client has to keep."""
        self._expect_key(request)
        expect_known(request.query_params, ("model",))
        classifier = self.models.classifier(request.query_params.get("model"))
        engine = classifier.engine
        return ModelBody(
            spec=engine.spec,
            provider=engine.provider,
            precision=engine.precision,
            precision_reason=engine.precision_reason,
            lanes=engine.lanes,
            fallback=engine.fallback,
            limits=self.limits.model_copy(update={"max_batch_size": classifier.max_batch_size}),
        )

    async def list_models(self, request: Request) -> ModelsBody:
        """Their names, for `model=NAME`, and which of them answers where a request names none."""
        self._expect_key(request)
        return self.models.body()

    async def live(self) -> LiveBody:
        """Says nothing of the model."""
        return LiveBody()

    async def ready(self) -> ReadyBody:
        """503 with the reason while starting, draining, or answering wrongly."""
        self.health.expect_ready()
        engine = self.models.classifier().engine
        return ReadyBody(
            provider=engine.provider,
            precision=engine.precision,
            precision_reason=engine.precision_reason,
            fallback=engine.fallback,
        )

    async def _classify_one(self, request: Request, cargo: Cargo, top_k: int | None, model: str | None) -> Response:
        self._expect_key(request)
        self.models.classifier(model).expect_top_k(top_k)
        timing = timing_of(request.scope)
        clients_deadline = self._clients_deadline(request)
        payload = await read_picture(request, self.body_limits, cargo)
        timing.received()
        deadline = min(clients_deadline, self._deadline())
        classifier = self.models.classifier(model)  # which may be another one by now
        wanted = classifier.expect_top_k(top_k)
        with classifier.admit(deadline=deadline) as (place,):
            work = classifier.classify(place, payload, top_k=wanted, deadline=deadline)
            classified = await while_connected(request.scope, request.receive, work)
        timing.stages |= classified.seconds
        timing.batch_size = classified.batch_size
        return _json({"model": classifier.named, "predictions": classified.predictions})

    async def _classify_many(self, request: Request, cargo: Cargo, top_k: int | None, model: str | None) -> Response:
        self._expect_key(request)
        self.models.classifier(model).expect_top_k(top_k)
        timing = timing_of(request.scope)
        clients_deadline = self._clients_deadline(request)
        uploads = await read_pictures(request, self.body_limits, cargo)
        timing.received()
        deadline = min(clients_deadline, self._deadline())
        classifier = self.models.classifier(model)  # which may be another one by now
        wanted = classifier.expect_top_k(top_k)
        with classifier.admit(len(uploads), deadline=deadline) as places:
            entries = (
                _entry(classifier, place, upload, wanted, deadline, patient=before >= _IMPATIENT, client=request)
                for before, (place, upload) in enumerate(zip(places, uploads, strict=True))
            )
            results = await while_connected(request.scope, request.receive, _gather(*entries))
        timing.errors = _errors_in(results)
        return _json({"model": classifier.named, "results": results})

    def _expect_key(self, request: Request) -> None:
        if self.keys.locked:
            headers = request.headers
            key = self.keys.expect_known(headers.get("authorization"), headers.get("x-api-key"))
            timing_of(request.scope).key = key

    def _deadline(self) -> float:
        """By when a request whose body has arrived is answered, in the event loop's time."""
        return asyncio.get_running_loop().time() + self.limits.request_timeout_s

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
    place: PicturePlace,
    upload: Upload,
    top_k: int,
    deadline: float,
    *,
    patient: bool,
    client: Request,
) -> dict[str, object]:
    try:
        classified = await classifier.classify(
            place, upload.payload, top_k=top_k, deadline=deadline, patient=patient, client=client
        )
    except ServiceError as error:
        forget_frames(error)
        return {"filename": upload.filename, "error": {"code": error.code, "detail": error.detail}}
    return {"filename": upload.filename, "predictions": classified.predictions}


def _errors_in(results: Iterable[Mapping[str, Any]]) -> Mapping[str, int]:
    """How many entries of a batch failed, by code."""
    return dict(Counter(entry["error"]["code"] for entry in results if "error" in entry))


def _json(body: dict[str, object]) -> Response:
    return Response(to_json(body), media_type="application/json")


async def _gather(*entries: Coroutine[Any, Any, T]) -> list[T]:
    return list(await asyncio.gather(*entries))
