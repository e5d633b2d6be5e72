"""GET /v1/models and what is below it, which KServe v1, TensorFlow Serving and OpenAI all have: one answer for all.

Errors have `error` as a text: KServe's and TensorFlow Serving's clients show it, and OpenAI's take it.
"""

from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import MODELS
from app.dialects import forms
from app.dialects.descriptions import MODEL, VERSION, answered_as
from app.dialects.dialect import Dialect, Info
from app.dialects.serving import Serving
from app.errors import BadApiKey, NotReady, ServiceError
from app.serving.registry import Model, Models, UnknownModel

_OWNER = "mixer-serve"
_PATH = "/v1/models"
_NAME = "model_name"
_AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
_ENTRY = {"id": "clothes", "object": "model", "created": 1767225600, "owned_by": _OWNER}
_STATUS = {**_ENTRY, "name": "clothes", "ready": True, "model_version_status": [{"version": "1", **_AVAILABLE}]}


class ListedModel(BaseModel):
    """A model, in OpenAI's words."""

    id: str = Field(description="What to ask for: the name of the bundle's folder, or MIXER_MODEL_NAME.")
    object: Literal["model"]
    created: int = Field(description="Seconds since 1970, when the last of its graphs was written.")
    owned_by: str


class ListedModels(BaseModel):
    """Every model, in OpenAI's words and in KServe's."""

    object: Literal["list"]
    data: list[ListedModel]
    models: list[str]


class VersionStatus(BaseModel):
    """The version that is served, in TensorFlow Serving's words."""

    version: str
    state: Literal["AVAILABLE"]
    status: dict[str, str]


class ModelStatus(ListedModel):
    """A model, in OpenAI's words, in KServe's and in TensorFlow Serving's."""

    name: str
    ready: bool
    model_version_status: list[VersionStatus]


def dialect(serving: Serving) -> Dialect:
    """The list, and each model, with a version or without."""
    register_url_convertor(_NAME, _Name())
    told = _Told(serving.models)
    one = "Whether a model is served, as clients of KServe v1, TensorFlow Serving and OpenAI ask"
    return Dialect(
        info=(
            Info(
                _PATH,
                _operation(
                    "v1_models",
                    "The models, as clients of KServe v1 and OpenAI ask",
                    ListedModels,
                    {"object": "list", "data": [_ENTRY], "models": ["clothes"]},
                ),
                told.all,
            ),
            Info(
                f"{_PATH}/{{model:{_NAME}}}",
                _operation("v1_model", one, ModelStatus, _STATUS, UnknownModel, NotReady, parameters=(MODEL,)),
                told.one,
            ),
            Info(
                f"{_PATH}/{{model}}/versions/{{version:{_NAME}}}",
                _operation(
                    "v1_model_version", one, ModelStatus, _STATUS, UnknownModel, NotReady, parameters=(MODEL, VERSION)
                ),
                told.one,
            ),
        )
    )


class _Name(Convertor[str]):
    """The last part of a path that is not what POST asks: GET is then no method of /v1/models/NAME:predict."""

    regex = "[^/]+(?<!:predict)(?<!:classify)(?<!:explain)"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


@dataclass(frozen=True)
class _Told:
    models: Models

    async def all(self, request: Request) -> Response:
        """Every model by its name."""
        listed = [_entry(model.name, model) for model in self.models]
        return _json({"object": "list", "data": listed, "models": [one["id"] for one in listed]})

    async def one(self, request: Request) -> Response:
        """A model that is ready; 404 where there is none, 503 where it is not ready."""
        asked = request.path_params
        model = self.models.asked(asked["model"], asked.get("version"))
        if model.failure is not None:
            raise NotReady(f"{model.name}: {model.failure.words}")
        status = {"version": model.classifier.spec.version, **_AVAILABLE}
        name = asked["model"]
        return _json({**_entry(name, model), "name": name, "ready": True, "model_version_status": [status]})


def _entry(name: str, model: Model) -> dict[str, Any]:
    """As OpenAI has it; `created` in seconds since 1970, when the last of its graphs was written."""
    modified_ns = max((modified_ns for _, _, _, modified_ns, _ in model.state), default=0)
    return {"id": name, "object": "model", "created": modified_ns // 10**9, "owned_by": _OWNER}


def _json(content: object) -> Response:
    return Response(to_json(content), media_type="application/json")


def _operation(
    operation_id: str,
    summary: str,
    body: type[BaseModel],
    example: object,
    *errors: type[ServiceError],
    parameters: tuple[dict[str, Any], ...] = (),
) -> Operation:
    responses = answered_as(body, example, forms.ERROR, BadApiKey, *errors, pictures=False)
    return Operation(operation_id, summary, MODELS, responses, {"parameters": list(parameters)} if parameters else {})
