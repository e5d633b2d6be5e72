"""The endpoints of the Open Inference Protocol over REST. What they tell is in the other modules."""

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION, HEALTH, MODELS
from app.dialects import forms
from app.dialects.descriptions import MODEL, VERSION, answered_as
from app.dialects.dialect import Dialect, Info, Route
from app.dialects.oip import descriptions, metadata, rest, statistics
from app.dialects.serving import Serving
from app.errors import BadApiKey, NotReady, ServiceError
from app.serving.registry import Model, UnknownModel

_MODEL, _VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"


def dialect(serving: Serving) -> Dialect:
    """Server, models and versions: metadata, health, configuration, statistics, index, inference."""
    told = _Told(serving)
    of_model = (
        ("", "metadata", MODELS, told.model, descriptions.MODEL_METADATA),
        ("/config", "config", MODELS, told.config, descriptions.CONFIG),
        ("/stats", "stats", MODELS, told.statistics, descriptions.STATISTICS),
        ("/ready", "ready", HEALTH, told.model_ready, descriptions.MODEL_READY),
    )
    infos = [
        Info("/v2", _operation("oip_server", "metadata", MODELS, descriptions.SERVER), told.server),
        Info("/v2/health/live", _health("oip_live", descriptions.LIVE), told.live, needs_key=False),
        Info("/v2/health/ready", _health("oip_ready", descriptions.READY), told.ready, needs_key=False),
        Info("/v2/models", _operation("oip_models", "names of the models", MODELS, descriptions.MODELS), told.models),
        Info(
            "/v2/models/stats", _operation("oip_stats", "statistics", MODELS, descriptions.STATISTICS),
            told.all_statistics,
        ),
        Info(
            "/v2/repository/index", _operation("oip_index", "index", MODELS, descriptions.INDEX), told.index,
            method="POST",
        ),
    ]  # fmt: skip
    for path, operation_id, parameters in (
        (_MODEL, "oip_model", (MODEL,)),
        (_VERSION, "oip_version", (MODEL, VERSION)),
    ):
        for end, name, tag, handler, answer in of_model:
            errors = (UnknownModel, NotReady) if name == "ready" else (UnknownModel,)
            operation = _operation(f"{operation_id}_{name}", f"{name} of a model", tag, answer, *errors, at=parameters)
            infos.append(Info(path + end, operation, handler))
    return Dialect(
        (
            Route(f"{_MODEL}/infer", _infer("oip_infer", MODEL), rest.read, rest.answer, forms.OIP),
            Route(f"{_VERSION}/infer", _infer("oip_version_infer", MODEL, VERSION), rest.read, rest.answer, forms.OIP),
        ),
        tuple(infos),
    )


@dataclass(frozen=True)
class _Told:
    serving: Serving

    async def server(self, request: Request) -> Response:
        """The server, and which extensions it has."""
        return _json(metadata.server(self.serving.version))

    async def live(self, request: Request) -> Response:
        """200 while the process can answer."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """200 while every model gives its stored answer, else 503."""
        try:
            self.serving.health.expect_ready()
        except NotReady as error:
            return _json({"ready": False, "live": True, "error": error.detail}, error.status)
        return _json({"ready": True, "live": True})

    async def models(self, request: Request) -> Response:
        """Every model by its name."""
        return _json({"models": [model.name for model in self.serving.models]})

    async def model(self, request: Request) -> Response:
        """What a model takes and gives."""
        return _json(metadata.model(self._asked(request)))

    async def config(self, request: Request) -> Response:
        """As Triton configures models."""
        return _json(metadata.config(self._asked(request), self.serving.max_images))

    async def model_ready(self, request: Request) -> Response:
        """200 while the model gives its stored answer, else 503."""
        model = self._asked(request)
        if model.failure is not None:
            raise NotReady(f"{model.name}: {model.failure.words}")
        return _json({"name": model.name, "ready": True})

    async def statistics(self, request: Request) -> Response:
        """Pictures, runs and where their time went, of one model."""
        return _json({"model_stats": [self._statistics(self._asked(request))]})

    async def all_statistics(self, request: Request) -> Response:
        """The same of every model."""
        return _json({"model_stats": [self._statistics(model) for model in self.serving.models]})

    async def index(self, request: Request) -> Response:
        """Every model with its version and state."""
        return _json([metadata.index_entry(model) for model in self.serving.models])

    def _statistics(self, model: Model) -> dict[str, Any]:
        return statistics.of_model(model, self.serving.metrics, alone=self.serving.is_alone)

    def _asked(self, request: Request) -> Model:
        path = request.path_params
        return self.serving.models.asked(path["model"], path.get("version"))


def _json(content: object, status: int = 200) -> Response:
    return Response(to_json(content), status, media_type="application/json")


def _operation(
    operation_id: str,
    what: str,
    tag: str,
    answer: descriptions.Answer,
    *errors: type[ServiceError],
    at: tuple[dict[str, Any], ...] = (),
) -> Operation:
    responses = answered_as(answer.schema, answer.example, forms.OIP, BadApiKey, *errors, pictures=False)
    summary = f"Open Inference Protocol: {what}"
    return Operation(operation_id, summary, tag, responses, {"parameters": list(at)} if at else {})


def _health(operation_id: str, answer: descriptions.Answer) -> Operation:
    responses = answered_as(answer.schema, answer.example, forms.OIP, pictures=False)
    if operation_id == "oip_ready":
        unready = {"application/json": {"schema": answer.schema, "example": descriptions.UNREADY}}
        responses |= {503: {"description": "Not ready", "content": unready}}
    return Operation(operation_id, "Open Inference Protocol: health", HEALTH, responses)


def _infer(operation_id: str, *at: dict[str, Any]) -> Operation:
    return Operation(
        operation_id, "Open Inference Protocol: inference", CLASSIFICATION, descriptions.inferred(),
        descriptions.infer_request(*at),
    )  # fmt: skip
