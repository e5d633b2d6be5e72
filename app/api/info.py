"""GET /model, /model/card, /models and /health: what runs here and how it is. HTTP only."""

from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api import descriptions
from app.api.accept import VARY, prefers
from app.api.classification import expect_key
from app.api.endpoint import add
from app.api.schemas import (
    AllModelsBody,
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
from app.http.prefix import prefix_of
from app.serving.cards import NoCard
from app.serving.health import Health
from app.serving.registry import Models, ModelsBody
from app.shadow.shadow import Shadow

_JSON, _MARKDOWN = "application/json", "text/markdown"


@dataclass(frozen=True)
class Info:
    """The endpoints that only tell, over the collaborators they need."""

    models: Models
    health: Health
    keys: ApiKeys
    limits: FullLimitsBody
    shadow: Shadow | None = None

    def for_everyone(self) -> APIRouter:
        """The endpoints for the public port, with less of what runs."""
        return self._router(PublicModelBody, ModelsBody, PublicReadyBody)

    def for_operators(self) -> APIRouter:
        """The endpoints in full."""
        return self._router(ModelBody, AllModelsBody, ReadyBody)

    def _router(
        self, model: type[PublicModelBody], models: type[ModelsBody], ready: type[PublicReadyBody]
    ) -> APIRouter:
        router, needs_key = APIRouter(), self.keys.locked
        add(router, "/model", self.model, descriptions.MODEL, body=model, needs_key=needs_key)
        add(
            router, "/model/card", self.card, descriptions.CARD,
            response_class=Response, needs_key=needs_key,
        )  # fmt: skip
        add(router, "/models", self.list_models, descriptions.LIST_MODELS, body=models, needs_key=needs_key)
        add(router, "/health/live", self.live, descriptions.LIVE, body=LiveBody)
        add(router, "/health/ready", self.ready, descriptions.READY, body=ready)
        for path, endpoint, body in (("/health/live", self.live, LiveBody), ("/health/ready", self.ready, ready)):
            router.add_api_route(path, endpoint, methods=["HEAD"], response_model=body, include_in_schema=False)
        return router

    async def model(self, request: Request) -> ModelBody:
        """The ModelSpec, what runs it, and the limits a client has to keep."""
        expect_key(self.keys, request)
        expect_known(request.query_params, ("model",))
        asked = request.query_params.get("model")
        model = self.models.asked(asked)
        classifier, engine = model.classifier, model.classifier.engine
        conformal = engine.spec.conformal
        query = "" if asked is None else f"?model={quote(asked, safe='')}"
        return ModelBody(
            spec=ModelSpec.model_validate(engine.spec.model_dump()),
            sets=conformal and SetsBody(data_set=conformal.data_set, num_pictures=conformal.num_pictures),
            provider=engine.provider,
            precision=engine.precision,
            embedding_dim=engine.embedding_dim,
            precision_reason=engine.precision_reason,
            instances=engine.instances,
            lanes=engine.instances,
            fallback=engine.fallback,
            limits=self.limits.model_copy(update={"max_batch_size": classifier.max_batch_size}),
            card=None if model.card is None else f"{prefix_of(request.scope)}/model/card{query}",
        )

    async def card(self, request: Request) -> Response:
        """The model card of its bundle, in Markdown, or in JSON where `Accept` prefers that."""
        expect_key(self.keys, request)
        expect_known(request.query_params, ("model",))
        model = self.models.asked(request.query_params.get("model"))
        if model.card is None:
            raise NoCard(
                f"{model.name} has no model card; expected README.md and card.json in its bundle, as mixer card writes."
            )
        if prefers(request.headers.get("accept", ""), _JSON, _MARKDOWN):
            return Response(model.card.json, headers=VARY, media_type=_JSON)
        return Response(model.card.markdown, headers=VARY, media_type=_MARKDOWN)

    async def list_models(self, request: Request) -> AllModelsBody:
        """Their names, for `model=NAME`, and which of them answers where a request names none."""
        expect_key(self.keys, request)
        return AllModelsBody(**dict(self.models.body()), shadow=self.shadow and self.shadow.entry())

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
