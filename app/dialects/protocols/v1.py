"""POST /v1/models/NAME:predict of KServe v1 and TensorFlow Serving, and :classify of the latter."""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION
from app.dialects import forms
from app.dialects.descriptions import MODEL, VERSION, answered_as, asked_as
from app.dialects.dialect import Answered, Dialect, Query, Route
from app.dialects.protocols import instances
from app.dialects.reading import Body
from app.dialects.serving import Serving

_MODEL, _VERSION = "/v1/models/{model}", "/v1/models/{model}/versions/{version}"
_EXAMPLES: dict[str, Any] = {
    "type": "object",
    "examples": [{"examples": [{"image": {"b64": instances.A_PIXEL}}]}],
    "required": ["examples"],
    "properties": {
        "examples": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object"},
            "description": 'A picture each, as {"image": {"b64": TEXT}}.',
        }
    },
}
_RESULTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "results": {
            "type": "array",
            "description": "For each example every label with its probability, the most probable first.",
            "items": {"type": "array", "items": {"type": "array", "items": {}}},
        }
    },
}


def dialect(serving: Serving) -> Dialect:
    """:predict and :classify of each model, with a version or without."""
    return Dialect(
        (
            Route(f"{_MODEL}:predict", _predict("v1_predict", MODEL), instances.read, instances.answer, forms.ERROR),
            Route(
                f"{_VERSION}:predict", _predict("v1_predict_version", MODEL, VERSION),
                instances.read, instances.answer, forms.ERROR,
            ),
            Route(f"{_MODEL}:classify", _classify("v1_classify", MODEL), _read, _answer, forms.ERROR),
            Route(
                f"{_VERSION}:classify", _classify("v1_classify_version", MODEL, VERSION), _read, _answer, forms.ERROR
            ),
        )
    )  # fmt: skip


async def _read(body: Body) -> Query:
    """`context`, the features that all examples have, holds no picture of any."""
    asked = await body.json()
    return Query(instances.pictures_of(body, asked.get("examples"), "examples"))


def _answer(answered: Answered) -> Response:
    results = [[[one["label"], one["probability"]] for one in each.predictions] for each in answered.answers]
    return Response(to_json({"results": results}), media_type=instances.JSON)


def _predict(operation_id: str, *parameters: dict[str, Any]) -> Operation:
    return Operation(
        operation_id,
        "Classify pictures, as clients of KServe v1 and TensorFlow Serving ask",
        CLASSIFICATION,
        answered_as(instances.ANSWER, instances.EXAMPLE, forms.ERROR),
        asked_as({instances.JSON: instances.REQUEST}, *parameters),
    )


def _classify(operation_id: str, *parameters: dict[str, Any]) -> Operation:
    return Operation(
        operation_id,
        "Classify pictures, as clients of TensorFlow Serving's :classify ask",
        CLASSIFICATION,
        answered_as(_RESULTS, {"results": [[["pants", 0.97], ["dress", 0.02]]]}, forms.ERROR),
        asked_as({instances.JSON: _EXAMPLES}, *parameters),
    )
