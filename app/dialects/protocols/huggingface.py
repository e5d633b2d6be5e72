"""Hugging Face's image classification: the body of a picture, or JSON with `inputs` in base64; labels with scores.

As InferenceClient and @huggingface/inference send it, and the Inference Toolkit takes it.
"""

from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION
from app.dialects import forms
from app.dialects.descriptions import MODEL, answered_as, asked_as
from app.dialects.dialect import Answered, Dialect, Query, Route
from app.dialects.reading import Body, whole_number
from app.dialects.serving import Serving
from app.errors import BadParameter

_DIGITS = 10  # and more are no number of labels
_TOP_K = 5  # as the pipelines of transformers have it
_JSON = "application/json"
_FUNCTIONS = ("softmax", "none")  # of the logits


def dialect(serving: Serving) -> Dialect:
    """POST /hf, or / as an endpoint there has it, for the default model, /hf/models/NAME for another."""
    return Dialect(
        (
            Route("/", _operation("huggingface_root"), _read, _answer, forms.ERROR),
            Route("/hf", _operation("huggingface"), _read, _answer, forms.ERROR),
            Route("/hf/models/{model}", _operation("huggingface_model", MODEL), _read, _answer, forms.ERROR),
        )
    )


async def _read(body: Body) -> Query:
    if body.media_type != _JSON:
        asked_for = body.request.query_params.get("top_k", str(_TOP_K))
        top_k = whole_number(
            int(asked_for) if asked_for.isdecimal() and len(asked_for) < _DIGITS else asked_for, "top_k"
        )
        return Query([await body.file()], top_k, options="softmax")
    asked = await body.json()
    parameters = asked.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadParameter("parameters is no object; expected one.")
    if "candidate_labels" in parameters:
        raise BadParameter("candidate_labels is given; expected none, as this model has classes of its own.")
    function = parameters.get("function_to_apply") or "softmax"
    if function not in _FUNCTIONS:
        raise BadParameter(f"function_to_apply is {str(function)[:40]!r}; expected {' or '.join(_FUNCTIONS)}.")
    top_k = whole_number(parameters.get("top_k"), "top_k") or _TOP_K
    return Query([body.picture(asked.get("inputs"), "inputs")], top_k, options=function)


def _answer(answered: Answered) -> Response:
    (classified,) = answered.answers
    logits = classified.scores.logits
    return Response(
        to_json(
            [
                {
                    "label": one["label"],
                    "score": one["probability"] if answered.query.options == "softmax" else float(logits[one["index"]]),
                }
                for one in classified.predictions
            ]
        ),
        media_type=_JSON,
    )


def _operation(operation_id: str, *parameters: dict[str, Any]) -> Operation:
    scores = {"type": "object", "properties": {"label": {"type": "string"}, "score": {"type": "number"}}}
    body: dict[str, Any] = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": {"type": "string", "description": "A picture file in base64."},
            "parameters": {
                "type": "object",
                "properties": {
                    "top_k": {"type": "integer", "minimum": 1, "description": "How many labels; at most all."},
                    "function_to_apply": {"type": "string", "enum": [*_FUNCTIONS]},
                },
            },
        },
    }
    return Operation(
        operation_id,
        "Classify one picture, as Hugging Face's clients ask",
        CLASSIFICATION,
        answered_as({"type": "array", "items": scores}, [{"label": "pants", "score": 0.9953}], forms.ERROR),
        asked_as({_JSON: body, "application/octet-stream": {"type": "string", "format": "binary"}}, *parameters),
    )
