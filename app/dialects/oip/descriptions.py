"""What OpenAPI says of the Open Inference Protocol: schemas and examples of bodies and answers."""

from typing import Any, NamedTuple

from app.api.openapi import Responses
from app.dialects import forms
from app.dialects.descriptions import answered_as, asked_as
from app.dialects.oip import metadata
from app.dialects.oip.infer import OUTPUTS
from app.dialects.oip.rest import HEADER_LENGTH, JSON, OCTETS
from app.inference.scores import NoEmbedding

_TEXT, _COUNT, _TRUTH = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
_SHAPE = {"type": "array", "items": {"type": "integer"}}
_TEXTS = {"type": "array", "items": _TEXT}


class Answer(NamedTuple):
    """The schema of an answer, and one of them."""

    schema: dict[str, Any]
    example: object


def _object(**members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": members}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_TENSOR = _object(name=_TEXT, datatype=_TEXT, shape=_SHAPE)
_DURATION = _object(count=_COUNT, ns=_COUNT)
_STAGES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


SERVER = Answer(
    _object(name=_TEXT, version=_TEXT, extensions=_TEXTS),
    {"name": metadata.SERVER, "version": "0.2.0", "extensions": list(metadata.EXTENSIONS)},
)
LIVE = Answer(_object(live=_TRUTH), {"live": True})
READY = Answer(_object(ready=_TRUTH, live=_TRUTH, error=_TEXT), {"ready": True, "live": True})
UNREADY = {"ready": False, "live": True, "error": "The service is starting."}
MODELS = Answer(_object(models=_TEXTS), {"models": ["clothes"]})
MODEL_READY = Answer(_object(name=_TEXT, ready=_TRUTH), {"name": "clothes", "ready": True})
MODEL_METADATA = Answer(
    _object(
        name=_TEXT, versions=_TEXTS, platform=_TEXT, inputs=_list(_TENSOR), outputs=_list(_TENSOR),
        properties=_object(labels=_TEXTS, outputs_on_request=_TEXTS),
    ),
    {
        "name": "clothes",
        "versions": ["1"],
        "platform": metadata.PLATFORM,
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
        "properties": {"labels": ["dress", "hat"], "outputs_on_request": ["logits", "embedding", "uncertain"]},
    },
)  # fmt: skip
_CONFIG_TENSOR = _object(
    name=_TEXT, data_type=_TEXT, format=_TEXT, dims=_SHAPE, optional=_TRUTH, label_filename=_TEXT
)  # fmt: skip
CONFIG = Answer(
    _object(
        name=_TEXT, platform=_TEXT, max_batch_size=_COUNT, input=_list(_CONFIG_TENSOR), output=_list(_CONFIG_TENSOR)
    ),
    {"name": "clothes", "platform": metadata.PLATFORM, "max_batch_size": 64},
)
STATISTICS = Answer(
    _object(
        model_stats=_list(
            _object(
                name=_TEXT, version=_TEXT, last_inference=_COUNT, inference_count=_COUNT, execution_count=_COUNT,
                inference_stats=_object(**dict.fromkeys(_STAGES, _DURATION)),
                batch_stats=_list({"type": "object"}), memory_usage=_list({"type": "object"}),
            )
        )
    ),
    {"model_stats": [{"name": "clothes", "version": "1", "inference_count": 7, "execution_count": 3}]},
)  # fmt: skip
INDEX = Answer(
    _list(_object(name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
    [{"name": "clothes", "version": "1", "state": "READY"}],
)
_PARAMETERS = {"type": "object", "description": "Those that are not known are passed over."}
_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {**_PARAMETERS, "properties": {"timeout": {"type": "integer", "description": "Microseconds."}}},
        "inputs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "datatype", "shape"],
                "properties": {
                    "name": {"type": "string", "enum": ["image"]},
                    "datatype": {"type": "string", "enum": ["BYTES", "UINT8", "FP32"]},
                    "shape": _SHAPE,
                    "parameters": _PARAMETERS,
                    "data": {"type": "array", "items": {}, "description": "Files in base64, or pixels from 0 to 255."},
                },
            },
        },
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "enum": list(OUTPUTS)},
                    "parameters": {
                        "type": "object",
                        "properties": {"classification": {"type": "integer", "minimum": 0}, "binary_data": _TRUTH},
                    },
                },
            },
        },
    },
}
_ANSWER = Answer(
    _object(
        model_name=_TEXT, model_version=_TEXT, id=_TEXT, parameters=_object(model=_TEXT, precision=_TEXT),
        outputs=_list(
            _object(name=_TEXT, datatype=_TEXT, shape=_SHAPE, data=_list({}), parameters={"type": "object"})
        ),
    ),
    {
        "model_name": "clothes",
        "model_version": "1",
        "parameters": {"model": "clothes", "precision": "int8"},
        "outputs": [{"name": "probabilities", "datatype": "BYTES", "shape": [1, 1], "data": ["0.995319:4:pants"]}],
    },
)  # fmt: skip


def inferred() -> Responses:
    """The answer, in JSON or with binary tensors behind it, and every error."""
    responses = answered_as(_ANSWER.schema, _ANSWER.example, forms.OIP, NoEmbedding)
    responses[200]["content"][OCTETS] = {"schema": {"type": "string", "format": "binary"}}
    return responses


def infer_request(*at: dict[str, Any]) -> dict[str, Any]:
    """Its body, in JSON or with binary tensors behind it, or a picture alone."""
    header = {
        "name": HEADER_LENGTH,
        "in": "header",
        "required": False,
        "description": "How many bytes of the body are JSON, before binary tensors; 0: none, the body is the picture.",
        "schema": {"type": "integer", "minimum": 0},
    }
    binary = {"type": "string", "format": "binary"}
    return asked_as({JSON: _REQUEST, OCTETS: binary}, *at, header)
