"""POST /v1/models/NAME:predict of KServe v1 and TensorFlow Serving, :classify of the latter, :explain of the former."""

from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.explain import Explained
from app.api.openapi import CLASSIFICATION
from app.dialects import explanations, forms
from app.dialects.descriptions import MODEL, VERSION, answered_as, asked_as
from app.dialects.dialect import Answered, Dialect, Query, Route
from app.dialects.explanations import ExplainRoute
from app.dialects.protocols import instances
from app.dialects.reading import Body, kind_of
from app.dialects.serving import Serving
from app.errors import BadParameter
from app.explanation.wanted import Asked

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

_EXPLANATIONS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "explanations": {
            "type": "array",
            "description": "For each instance what POST /explain answers.",
            "items": {"type": "object"},
        }
    },
}
_TEXT = {"type": ["string", "null"]}
_WHY: dict[str, Any] = {
    **instances.REQUEST,
    "properties": {
        "instances": instances.REQUEST["properties"]["instances"],
        "parameters": {
            "type": ["object", "null"],
            "properties": {
                "target": {**_TEXT, "description": "The label to explain, or its index."},
                "method": {**_TEXT, "description": "As of POST /explain."},
                "baseline": {**_TEXT, "description": "Likewise."},
            },
        },
    },
}
_EXPLAIN = Operation(
    "v1_explain",
    "Show what in pictures carries their labels, as clients of KServe v1 ask",
    CLASSIFICATION,
    answered_as(_EXPLANATIONS, {"explanations": []}, forms.ERROR),
    asked_as({instances.JSON: _WHY}, MODEL),
)


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
            ExplainRoute(f"{_MODEL}:explain", _EXPLAIN, _read_why, _answer_why, forms.ERROR),
        )
    )  # fmt: skip


async def _read(body: Body) -> Query:
    """`context`, the features that all examples have, holds no picture of any."""
    asked = await body.json()
    return Query(instances.pictures_of(body, asked.get("examples"), "examples"))


def _answer(answered: Answered) -> Response:
    results = [[[one["label"], one["probability"]] for one in each.predictions] for each in answered.answers]
    return Response(to_json({"results": results}), media_type=instances.JSON)


async def _read_why(body: Body) -> explanations.Query:
    """As :predict; `parameters` may have a target, a method and a baseline."""
    asked = await body.json()
    parameters = {} if asked.get("parameters") is None else asked["parameters"]
    if not isinstance(parameters, dict):
        raise BadParameter(f"parameters is {kind_of(parameters)}; expected an object.")
    wanted: Asked = {
        "target": _text(parameters, "target"),
        "method": _text(parameters, "method"),
        "baseline": _text(parameters, "baseline"),
    }
    return explanations.Query(instances.pictures_of(body, asked.get("instances"), "instances"), wanted)


def _text(parameters: dict[str, Any], name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        raise BadParameter(f"parameters.{name} is {kind_of(value)}; expected text.")
    return value


def _answer_why(explained: Sequence[Explained]) -> Response:
    return Response(to_json({"explanations": explained}), media_type=instances.JSON)


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
