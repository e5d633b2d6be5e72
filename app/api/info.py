"""GET /model, /models and /health: what runs here and how it is. HTTP only."""

from dataclasses import dataclass

from fastapi import APIRouter, Request

from app.api import descriptions, security
from app.api.openapi import HEALTH, MODELS
from app.api.schemas import (
    FullLimitsBody,
    LiveBody,
    ModelBody,
    PublicModelBody,
    PublicReadyBody,
    ReadyBody,
)
from app.http.api_keys import ApiKeys
from app.http.dispatcher import expect_known
from app.http.request_log import timing_of
from app.serving.health import Health
from app.serving.registry import Models, ModelsBody


@dataclass(frozen=True)
class Info:
    """The endpoints that only tell, over the collaborators they need."""

    models: Models
    health: Health
    keys: ApiKeys
    limits: FullLimitsBody

    def for_everyone(self) -> APIRouter:
        """Without what operators know."""
        return self._router(PublicModelBody, PublicReadyBody)

    def for_operators(self) -> APIRouter:
        """In full."""
        return self._router(ModelBody, ReadyBody)

    def _router(self, model: type[PublicModelBody], ready: type[PublicReadyBody]) -> APIRouter:
        needs = security.or_none(needed=self.keys.locked)
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
            openapi_extra=descriptions.MODEL_PARAMETERS | needs,
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
            openapi_extra=needs,
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

    async def model(self, request: Request) -> ModelBody:
        """The ModelSpec, what runs it, and the limits a client has to keep."""
        expect_key(self.keys, request)
        expect_known(request.query_params, ("model",))
        classifier = self.models.classifier(request.query_params.get("model"))
        engine = classifier.engine
        return ModelBody(
            spec=engine.spec,
            provider=engine.provider,
            precision=engine.precision,
            precision_reason=engine.precision_reason,
            instances=engine.instances,
            lanes=engine.instances,
            fallback=engine.fallback,
            limits=self.limits.model_copy(update={"max_batch_size": classifier.max_batch_size}),
        )

    async def list_models(self, request: Request) -> ModelsBody:
        """Their names, for `model=NAME`, and which of them answers where a request names none."""
        expect_key(self.keys, request)
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


def expect_key(keys: ApiKeys, request: Request) -> None:
    """Let in who has one of the keys, under its name, or everyone where there are none. Raises BadApiKey."""
    if keys.locked:
        headers = request.headers
        key = keys.expect_known(headers.get("authorization"), headers.get("x-api-key"))
        timing_of(request.scope).key = key
