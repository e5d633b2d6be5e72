"""TorchServe's inference API, as its image_classifier answers: a picture's bytes in, labels with probabilities out.

Its explanations are a bare list of numbers, channels by rows by columns; here there is one channel, and a number for
each patch.
"""

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
from app.dialects.reading import Body
from app.dialects.serving import Serving
from app.explanation.wanted import Asked

_TOP_K = 5  # as image_classifier has it
_FORM = "multipart/form-data"
_FIELDS = ("data", "body", "file")  # which its handlers look at, and ours
_FILE = {"type": "string", "format": "binary"}
_REQUEST: dict[str, dict[str, Any]] = {
    "application/octet-stream": _FILE,
    _FORM: {"type": "object", "properties": {_FIELDS[0]: {**_FILE, "description": "A picture file."}}},
}
_VALUES = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    "description": "1 by rows by columns: what each patch adds to the logit of the most probable label.",
}


def dialect(serving: Serving) -> Dialect:
    """POST /predictions/NAME and /predictions/NAME/VERSION; PUT too, which curl -T asks with."""
    path, why = "/predictions/{model}", "/explanations/{model}"
    return Dialect(
        (
            _route(path, "POST", "torchserve", MODEL),
            _route(path, "PUT", "torchserve_put", MODEL),
            _route(f"{path}/{{version}}", "POST", "torchserve_version", MODEL, VERSION),
            _route(f"{path}/{{version}}", "PUT", "torchserve_version_put", MODEL, VERSION),
            _why(why, "torchserve_explanations", MODEL),
            _why(f"{why}/{{version}}", "torchserve_explanations_version", MODEL, VERSION),
        )
    )


def _route(path: str, method: str, operation_id: str, *parameters: dict[str, Any]) -> Route:
    return Route(path, _operation(operation_id, *parameters), _read, _answer, forms.TORCHSERVE, method=method)


def _why(path: str, operation_id: str, *parameters: dict[str, Any]) -> ExplainRoute:
    operation = Operation(
        operation_id,
        "Show what in a picture carries its label, as TorchServe's clients ask",
        CLASSIFICATION,
        answered_as(_VALUES, [[[0.1, -0.02], [1.7, 2.4]]], forms.TORCHSERVE),
        asked_as(_REQUEST, *parameters),
    )
    return ExplainRoute(path, operation, _read_why, _answer_why, forms.TORCHSERVE)


async def _read_why(body: Body) -> explanations.Query:
    said = body.request.query_params
    asked: Asked = {"target": said.get("target"), "method": said.get("method"), "baseline": said.get("baseline")}
    return explanations.Query((await _read(body)).pictures, asked)


def _answer_why(explained: Sequence[Explained]) -> Response:
    return Response(to_json([one["grid"]["values"] for one in explained]), media_type="application/json")


async def _read(body: Body) -> Query:
    """Of any other type than a form's, the body is the picture: curl sends one as that of a form in a page."""
    if body.media_type == _FORM:
        return Query(await body.files(_FIELDS), _TOP_K)
    return Query([await body.content()], _TOP_K)


def _answer(answered: Answered) -> Response:
    (classified,) = answered.answers
    return Response(
        to_json({one["label"]: one["probability"] for one in classified.predictions}), media_type="application/json"
    )


def _operation(operation_id: str, *parameters: dict[str, Any]) -> Operation:
    scores = {"type": "object", "additionalProperties": {"type": "number"}}
    return Operation(
        operation_id,
        "Classify one picture, as TorchServe's clients ask",
        CLASSIFICATION,
        answered_as(scores, {"pants": 0.9953, "hat": 0.0009}, forms.TORCHSERVE),
        asked_as(_REQUEST, *parameters),
    )
