"""HTTP only: bodies in, JSON and problem+json out."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import RedirectResponse, Response

from app.access import timing_of
from app.bodies import FIELD, BodyLimits, Upload, read_picture, read_pictures
from app.classifier import Classified, Classifier, PicturePlace
from app.drain import Drain
from app.errors import ClientGone, ServiceError
from app.health import Health
from app.keys import ApiKeys
from app.metrics import CONTENT_TYPE, Metrics
from app.problems import MEDIA_TYPE
from app.schemas import (
    BatchBody,
    BatchEntry,
    ClassifyBody,
    EntryError,
    LimitsBody,
    LiveBody,
    ModelBody,
    ModelName,
    PredictionBody,
    Problem,
    ReadyBody,
)

T = TypeVar("T")

TopK = Annotated[int | None, Query(description="How many labels to return; at most the number of classes. Default 5.")]

_FILE = {"type": "string", "format": "binary"}
_ONE_FILE = {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _FILE}}}
_MANY_FILES = {
    "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: {"type": "array", "items": _FILE}}}
}
_ONE_PICTURE = {"multipart/form-data": _ONE_FILE, "image/*": {"schema": _FILE}}
_PICTURE_STATUSES = (400, 401, 413, 415, 422, 429, 500, 503, 504)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": "RFC 9457 problem", "content": content} for status in statuses}


@dataclass(frozen=True)
class Routes:
    """The endpoints over the collaborators they need."""

    classifier: Classifier
    health: Health
    drain: Drain
    metrics: Metrics
    keys: ApiKeys
    limits: LimitsBody
    body_limits: BodyLimits

    def router(self) -> APIRouter:
        """Every endpoint of the service."""
        router = APIRouter()
        router.add_api_route(
            "/classify",
            self.classify,
            methods=["POST"],
            summary="Classify one picture",
            responses={200: {"model": ClassifyBody}, **_problems(*_PICTURE_STATUSES)},
            openapi_extra={"requestBody": {"required": True, "content": _ONE_PICTURE}},
        )
        router.add_api_route(
            "/classify/batch",
            self.classify_batch,
            methods=["POST"],
            summary="Classify many pictures; a bad one spoils only its own entry",
            responses={200: {"model": BatchBody}, **_problems(*_PICTURE_STATUSES)},
            openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": _MANY_FILES}}},
        )
        router.add_api_route(
            "/model", self.model, response_model=ModelBody, summary="What answers here", responses=_problems(401)
        )
        router.add_api_route(
            "/health/live", self.live, response_model=LiveBody, summary="200 while the process can answer"
        )
        router.add_api_route(
            "/health/ready",
            self.ready,
            response_model=ReadyBody,
            summary="200 while a stored picture gets its stored answer",
            responses=_problems(503),
        )
        router.add_api_route("/metrics", self.scrape, summary="Prometheus metrics", response_class=Response)
        router.add_api_route("/", self.root, include_in_schema=False)
        return router

    async def classify(self, request: Request, top_k: TopK = None) -> Response:
        """One picture as the multipart field `file` or as the raw body, in any accepted format."""
        with self.drain.enter():
            return await self._classify_one(request, top_k)

    async def classify_batch(self, request: Request, top_k: TopK = None) -> Response:
        """Every multipart field `file` is a picture. Answers come in the same order."""
        with self.drain.enter():
            return await self._classify_many(request, top_k)

    async def model(self, request: Request) -> ModelBody:
        """The ModelSpec, what runs it, and the limits a client has to keep."""
        self._expect_key(request)
        engine = self.classifier.engine
        return ModelBody(
            spec=engine.spec,
            provider=engine.provider,
            precision=engine.precision,
            lanes=engine.lanes,
            fallback=engine.fallback,
            limits=self.limits,
        )

    async def live(self) -> LiveBody:
        """Says nothing of the model."""
        return LiveBody()

    async def ready(self) -> ReadyBody:
        """503 with the reason while starting, draining, or answering wrongly."""
        self.health.expect_ready()
        engine = self.classifier.engine
        return ReadyBody(provider=engine.provider, precision=engine.precision, fallback=engine.fallback)

    async def scrape(self) -> Response:
        """The whole service, all worker processes."""
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

    async def root(self) -> RedirectResponse:
        """To the documentation."""
        return RedirectResponse("/docs")

    async def _classify_one(self, request: Request, top_k: int | None) -> Response:
        self._expect_key(request)
        wanted = self.classifier.expect_top_k(top_k)
        timing = timing_of(request.scope)
        payload = await read_picture(request, self.body_limits)
        timing.stages["receive"] = time.perf_counter() - timing.started
        with self.classifier.admit() as (place,):
            classified = await _while_connected(request, self._classify(place, payload, wanted))
        timing.stages |= {
            "decode": classified.decode_s, "queue": classified.queue_s, "infer": classified.infer_s
        }  # fmt: skip
        timing.batch_size = classified.batch_size
        return _json(ClassifyBody(model=self._model_name(), predictions=_predictions(classified)))

    async def _classify_many(self, request: Request, top_k: int | None) -> Response:
        self._expect_key(request)
        wanted = self.classifier.expect_top_k(top_k)
        timing = timing_of(request.scope)
        uploads = await read_pictures(request, self.body_limits)
        timing.stages["receive"] = time.perf_counter() - timing.started
        with self.classifier.admit(len(uploads)) as places:
            entries = [self._entry(place, upload, wanted) for place, upload in zip(places, uploads, strict=True)]
            results = await _while_connected(request, _gather(entries))
        return _json(BatchBody(model=self._model_name(), results=results))

    def _expect_key(self, request: Request) -> None:
        self.keys.expect_known(request.headers.get("authorization"), request.headers.get("x-api-key"))

    def _model_name(self) -> ModelName:
        engine = self.classifier.engine
        return ModelName(name=engine.spec.name, version=engine.spec.version, precision=engine.precision)

    async def _classify(self, place: PicturePlace, payload: bytes, top_k: int) -> Classified:
        return await self.classifier.classify(place, payload, top_k=top_k, timeout_s=self.limits.request_timeout_s)

    async def _entry(self, place: PicturePlace, upload: Upload, top_k: int) -> BatchEntry:
        try:
            classified = await self._classify(place, upload.payload, top_k)
        except ServiceError as error:
            return BatchEntry(filename=upload.filename, error=EntryError(code=error.code, detail=error.detail))
        return BatchEntry(filename=upload.filename, predictions=_predictions(classified))


def _predictions(classified: Classified) -> list[PredictionBody]:
    return [
        PredictionBody(label=prediction.label, index=prediction.index, probability=prediction.probability)
        for prediction in classified.predictions
    ]


def _json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(exclude_none=True), media_type="application/json")


async def _gather(entries: list[Coroutine[Any, Any, BatchEntry]]) -> list[BatchEntry]:
    return list(await asyncio.gather(*entries))


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up. Raises ClientGone then."""
    working = asyncio.ensure_future(work)
    hung_up = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((working, hung_up), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        for task in (working, hung_up):
            task.cancel()
        await asyncio.gather(working, hung_up, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
