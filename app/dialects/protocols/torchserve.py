"""TorchServe's inference API, as its image_classifier answers: a picture's bytes in, labels with probabilities out.

Its /explanations/{model} would be one more Route here, with the form of errors that is there for it.
"""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION
from app.dialects import forms
from app.dialects.descriptions import MODEL, VERSION, answered_as, asked_as
from app.dialects.dialect import Answered, Dialect, Query, Route
from app.dialects.reading import Body
from app.dialects.serving import Serving

_TOP_K = 5  # as image_classifier has it
_FORM = "multipart/form-data"
_FIELDS = ("data", "body", "file")  # which its handlers look at, and ours


def dialect(serving: Serving) -> Dialect:
    """POST /predictions/NAME and /predictions/NAME/VERSION; PUT too, which curl -T asks with."""
    path = "/predictions/{model}"
    return Dialect(
        (
            _route(path, "POST", "torchserve", MODEL),
            _route(path, "PUT", "torchserve_put", MODEL),
            _route(f"{path}/{{version}}", "POST", "torchserve_version", MODEL, VERSION),
            _route(f"{path}/{{version}}", "PUT", "torchserve_version_put", MODEL, VERSION),
        )
    )


def _route(path: str, method: str, operation_id: str, *parameters: dict[str, Any]) -> Route:
    return Route(path, _operation(operation_id, *parameters), _read, _answer, forms.TORCHSERVE, method=method)


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
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {_FIELDS[0]: {**file, "description": "A picture file."}}}
    scores = {"type": "object", "additionalProperties": {"type": "number"}}
    return Operation(
        operation_id,
        "Classify one picture, as TorchServe's clients ask",
        CLASSIFICATION,
        answered_as(scores, {"pants": 0.9973, "dress": 0.0011}, forms.TORCHSERVE),
        asked_as({"application/octet-stream": file, _FORM: form}, *parameters),
    )
