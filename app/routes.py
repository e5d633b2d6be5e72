"""HTTP only: bodies in, JSON and problem+json out."""

import asyncio
import math
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic_core import to_json
from starlette.responses import RedirectResponse, Response

from app.access import Access, timing_of
from app.bodies import FIELD, BodyLimits, Upload, read_picture, read_pictures
from app.classifier import Classifier, PicturePlace
from app.direct import Application, Direct
from app.drain import Drain
from app.errors import BadParameter, ServiceError
from app.hang_up import while_connected
from app.health import Health
from app.keys import ApiKeys
from app.metrics import CONTENT_TYPE, Metrics
from app.problems import MEDIA_TYPE
from app.schemas import (
    BatchBody,
    ClassifyBody,
    LimitsBody,
    LiveBody,
    ModelBody,
    Problem,
    ReadyBody,
)

T = TypeVar("T")

TopK = Annotated[int | None, Query(description="How many labels to return; at most the number of classes. Default 5.")]

TIMEOUT = "X-Request-Timeout-Ms"
_TIMEOUT_HEADER = {
    "name": TIMEOUT,
    "in": "header",
    "required": False,
    "description": "Milliseconds after which the client has no use for the answer. What cannot be answered by then is "
    "refused at once. At most the service's own limit counts.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}

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


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}, "parameters": [_TIMEOUT_HEADER]}


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

    def add_to(self, app: Application) -> None:
        """Every endpoint of the service, those for pictures with a shortcut."""
        app.include_router(self._router())
        for path, endpoint in (("/classify", self.classify), ("/classify/batch", self.classify_batch)):
            app.add_shortcut("POST", path, Access(Direct(path, endpoint, top_k=int | None), self.metrics))

    def _router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route(
            "/classify",
            self.classify,
            methods=["POST"],
            summary="Classify one picture",
            responses={200: {"model": ClassifyBody}, **_problems(*_PICTURE_STATUSES)},
            openapi_extra=_body(_ONE_PICTURE),
        )
        router.add_api_route(
            "/classify/batch",
            self.classify_batch,
            methods=["POST"],
            summary="Classify many pictures; a bad one spoils only its own entry",
            responses={200: {"model": BatchBody}, **_problems(*_PICTURE_STATUSES)},
            openapi_extra=_body({"multipart/form-data": _MANY_FILES}),
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
        clients_deadline = self._clients_deadline(request)
        payload = await read_picture(request, self.body_limits)
        timing.received()
        deadline = min(clients_deadline, self._deadline())
        with self.classifier.admit(deadline=deadline) as (place,):
            work = self.classifier.classify(place, payload, top_k=wanted, deadline=deadline)
            classified = await while_connected(request.scope, request.receive, work)
        timing.stages |= classified.seconds
        timing.batch_size = classified.batch_size
        return _json({"model": self._model_name, "predictions": classified.predictions})

    async def _classify_many(self, request: Request, top_k: int | None) -> Response:
        self._expect_key(request)
        wanted = self.classifier.expect_top_k(top_k)
        timing = timing_of(request.scope)
        clients_deadline = self._clients_deadline(request)
        uploads = await read_pictures(request, self.body_limits)
        timing.received()
        deadline = min(clients_deadline, self._deadline())
        with self.classifier.admit(len(uploads), deadline=deadline) as places:
            entries = (self._entry(*one, wanted, deadline) for one in zip(places, uploads, strict=True))
            results = await while_connected(request.scope, request.receive, _gather(*entries))
        return _json({"model": self._model_name, "results": results})

    async def _entry(self, place: PicturePlace, upload: Upload, top_k: int, deadline: float) -> dict[str, object]:
        try:
            classified = await self.classifier.classify(place, upload.payload, top_k=top_k, deadline=deadline)
        except ServiceError as error:
            return {"filename": upload.filename, "error": {"code": error.code, "detail": error.detail}}
        return {"filename": upload.filename, "predictions": classified.predictions}

    def _expect_key(self, request: Request) -> None:
        self.keys.expect_known(request.headers.get("authorization"), request.headers.get("x-api-key"))

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

    @cached_property
    def _model_name(self) -> dict[str, str]:
        engine = self.classifier.engine
        return {"name": engine.spec.name, "version": engine.spec.version, "precision": engine.precision}


def _json(body: dict[str, object]) -> Response:
    return Response(to_json(body), media_type="application/json")


async def _gather(*entries: Coroutine[Any, Any, T]) -> list[T]:
    return list(await asyncio.gather(*entries))
