"""GET /model, /models and /health: what runs here and how it is. HTTP only."""

from dataclasses import dataclass

from fastapi import APIRouter, Request

from app.api import descriptions
from app.api.endpoint import add
from app.api.schemas import (
    FullLimitsBody,
    LiveBody,
    ModelBody,
    ModelSpec,
    PublicModelBody,
    PublicReadyBody,
    ReadyBody,
    SetsBody,
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
        """The endpoints for the public port, with less of what runs."""
        return self._router(PublicModelBody, PublicReadyBody)

    def for_operators(self) -> APIRouter:
        """The endpoints in full."""
        return self._router(ModelBody, ReadyBody)

    def _router(self, model: type[PublicModelBody], ready: type[PublicReadyBody]) -> APIRouter:
        router, needs_key = APIRouter(), self.keys.locked
        add(router, "/model", self.model, descriptions.MODEL, body=model, needs_key=needs_key)
        add(router, "/models", self.list_models, descriptions.LIST_MODELS, body=ModelsBody, needs_key=needs_key)
        add(router, "/health/live", self.live, descriptions.LIVE, body=LiveBody)
        add(router, "/health/ready", self.ready, descriptions.READY, body=ready)
        for path, endpoint, body in (("/health/live", self.live, LiveBody), ("/health/ready", self.ready, ready)):
            router.add_api_route(path, endpoint, methods=["HEAD"], response_model=body, include_in_schema=False)
        return router

    async def model(self, request: Request) -> ModelBody:
        """The ModelSpec, what runs it, and the limits a client has to keep."""
        expect_key(self.keys, request)
        expect_known(request.query_params, ("model",))
        classifier = self.models.classifier(request.query_params.get("model"))
        engine = classifier.engine
        conformal = engine.spec.conformal
        return ModelBody(
            spec=ModelSpec.model_validate(engine.spec.model_dump()),
            sets=conformal and SetsBody(data_set=conformal.data_set, num_pictures=conformal.num_pictures),
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
