"""Roboflow's classification, as inference-sdk asks: v1 (a registry, then JSON), and v0 (base64 at /PROJECT/VERSION).

A model's id is its name and its version, as in clothes/1. The size of the picture, which no answer about labels needs,
is not told.
"""

import uuid
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION, MODELS, described
from app.dialects import forms
from app.dialects.descriptions import MODEL, VERSION, answered_as, asked_as
from app.dialects.dialect import Answered, Dialect, Info, Query, Route
from app.dialects.reading import Body, expect_some
from app.dialects.serving import Serving
from app.errors import BadApiKey, BadParameter
from app.inference.classifier import Classified
from app.serving.registry import Models, UnknownModel

_JSON = "application/json"
_BASE64 = "base64"
_KEY = {
    "name": "api_key",
    "in": "query",
    "required": False,
    "description": "A key, where the headers have none. One in the body is not looked at: the body is read only then.",
    "schema": {"type": "string"},
}


class InferredClass(BaseModel):
    """One label."""

    name: str = Field(alias="class")
    class_id: int
    confidence: float


class Inference(BaseModel):
    """The answer to one picture."""

    inference_id: str
    time: float = Field(description="Seconds from the picture's bytes to its labels.")
    predictions: list[InferredClass] = Field(description="Every class, most probable first.")
    top: str = Field(description="The most probable class.")
    confidence: float = Field(description="That of `top`.")


class RegisteredModel(BaseModel):
    """A model by its id. Its sizes are null, so that the client sends pictures as they are."""

    model_id: str
    task_type: Literal["classification"] = "classification"
    batch_size: int | None = None
    input_height: int | None = None
    input_width: int | None = None


class RegisteredModels(BaseModel):
    """Every model that is served."""

    models: list[RegisteredModel]


def dialect(serving: Serving) -> Dialect:
    """POST /infer/classification and /NAME/VERSION, and what the client asks before."""
    models = serving.models

    async def registry(request: Request) -> Response:
        """Every model, by the id that requests name."""
        listed = RegisteredModels(models=[RegisteredModel(model_id=one) for one in _ids(models)])
        return Response(to_json(listed), media_type=_JSON)

    async def add(request: Request) -> Response:
        """Asked for a model that the registry has not."""
        raise UnknownModel(f"No model is loaded on request; this service has {', '.join(_ids(models))}.")

    return Dialect(
        routes=(
            Route("/infer/classification", _infer(), _read, _answer, forms.MESSAGE, _key_of),
            Route("/{model}/{version}", _infer_v0(), _read_v0, _answer, forms.MESSAGE, _key_of),
        ),
        info=(
            Info("/model/registry", _REGISTRY, registry, key_of=_key_of),
            Info("/model/add", _ADD, add, method="POST", key_of=_key_of),
        ),
    )


async def _read(body: Body) -> Query:
    asked = await body.json()
    model_id = asked.get("model_id")
    if not isinstance(model_id, str):
        raise BadParameter("model_id is no text; expected NAME/VERSION.")
    name, _, version = model_id.partition("/")
    image = asked.get("image")
    if not isinstance(image, list):
        pictures = [_picture(body, image, "image")]
    else:
        expect_some(len(image), body.limits.max_images)
        pictures = [_picture(body, one, f"image[{at}]") for at, one in enumerate(image)]
    return Query(pictures, model=name, version=version or None, options=isinstance(image, list))


async def _read_v0(body: Body) -> Query:
    text = (await body.content(several=True)).decode("latin-1") or body.request.query_params.get("image", "")
    return Query([body.picture(text, "The body")], options=False)


def _picture(body: Body, image: Any, where: str) -> bytes:
    if not isinstance(image, dict):
        return body.picture(image, where)
    kind = image.get("type", _BASE64)
    if kind != _BASE64:
        raise BadParameter(f"{where}.type is {str(kind)[:40]!r}; expected {_BASE64!r}. Addresses are not fetched.")
    return body.picture(image.get("value"), f"{where}.value")


def _answer(answered: Answered) -> Response:
    told = [_told(one) for one in answered.answers]
    return Response(to_json(told if answered.query.options else told[0]), media_type=_JSON)


def _told(classified: Classified) -> dict[str, Any]:
    best = classified.predictions[0]
    return {
        "inference_id": str(uuid.uuid4()),
        "time": sum(classified.seconds.values()),
        "predictions": [
            {"class": one["label"], "class_id": one["index"], "confidence": one["probability"]}
            for one in classified.predictions
        ],
        "top": best["label"],
        "confidence": best["probability"],
    }


def _key_of(request: Request) -> str | None:
    return request.query_params.get("api_key")


def _ids(models: Models) -> list[str]:
    return [f"{model.name}/{model.classifier.spec.version}" for model in models]


_EXAMPLE = {
    "inference_id": "5f0c3f0e-4d2b-4c5e-9b55-5d6f0c1c2a77",
    "time": 0.0042,
    "predictions": [{"class": "pants", "class_id": 4, "confidence": 0.9953}],
    "top": "pants",
    "confidence": 0.9953,
}


def _infer() -> Operation:
    image = {
        "type": "object",
        "required": ["value"],
        "properties": {
            "type": {"type": "string", "enum": [_BASE64]},
            "value": {"type": "string", "description": "A picture file in base64."},
        },
    }
    body: dict[str, Any] = {
        "type": "object",
        "required": ["model_id", "image"],
        "properties": {
            "model_id": {"type": "string", "example": "clothes/1"},
            "image": {"anyOf": [image, {"type": "array", "items": image, "minItems": 1}]},
        },
    }
    return Operation(
        "roboflow",
        "Classify pictures, as Roboflow's client asks; several are answered with a list",
        CLASSIFICATION,
        answered_as(Inference | list[Inference], _EXAMPLE, forms.MESSAGE),
        asked_as({_JSON: body}, _KEY),
    )


def _infer_v0() -> Operation:
    text = {"type": "string", "format": "binary"}
    return Operation(
        "roboflow_v0",
        "Classify one picture, as Roboflow's client asks in its mode v0",
        CLASSIFICATION,
        answered_as(Inference, _EXAMPLE, forms.MESSAGE),
        asked_as(
            {"application/octet-stream": text},
            MODEL,
            VERSION,
            _KEY,
            description="Base64, whatever the content type says.",
        ),
    )


_REGISTRY = Operation(
    "roboflow_registry",
    "The models, by the ids that Roboflow's client asks for",
    MODELS,
    answered_as(
        RegisteredModels,
        RegisteredModels(models=[RegisteredModel(model_id="clothes/1")]).model_dump(),
        forms.MESSAGE,
        BadApiKey,
        pictures=False,
    ),
    {"parameters": [_KEY]},
)
_ADD = Operation(
    "roboflow_add",
    "No model is loaded on request: says which there are",
    MODELS,
    described(BadApiKey, UnknownModel, form=forms.MESSAGE),
    {"parameters": [_KEY]},
)
