"""`instances` in, `predictions` out: what KServe v1, TensorFlow Serving, Vertex AI and SageMaker have in common.

Knows the bodies, and none of the paths.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from app.dialects.dialect import Answered, Query
from app.dialects.protocols.pixels import pixels_of
from app.dialects.reading import Body, expect_some, kind_of, whole_number
from app.errors import BadParameter
from app.inference.answer import DEFAULT_TOP_K
from app.inference.classifier import Classified, Picture

JSON = "application/json"
_B64 = "b64"
_NAMES = (_B64, "image", "image_bytes", "data", "content")  # of a picture in an object that has more than that
_SHOWN = 40  # characters
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_COUNT = {"type": ["integer", "null"], "minimum": 1}
_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
A_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="  # a PNG
REQUEST: dict[str, Any] = {
    "type": "object",
    "examples": [{"instances": [{"b64": A_PIXEL}]}],
    "required": ["instances"],
    "properties": {
        "instances": {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array", "items": {}}]},
            "description": 'Pictures: files in base64, as text, as {"b64": TEXT}, or as either of them named in an '
            'object, {"image": {"b64": TEXT}}; or pixels from 0 to 255, as lists [height][width][3].',
        },
        "parameters": {
            "type": ["object", "null"],
            "properties": {
                "top_k": {**_COUNT, "description": "How many labels are shown; at most all."},
                "maxPredictions": {**_COUNT, "description": "The same, where there is no top_k."},
                "confidence_threshold": {**_SHARE, "description": "The least probability of a label that is shown."},
                "confidenceThreshold": {**_SHARE, "description": "The same, where there is no confidence_threshold."},
            },
        },
    },
}
ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "predictions": {
            "type": "array",
            "description": "One for each instance, in their order.",
            "items": {
                "type": "object",
                "properties": {
                    "label": {"type": "string"},
                    "index": {"type": "integer"},
                    "probability": {"type": "number"},
                    "classes": {"type": "integer", "description": "The index of the most probable class."},
                    "probabilities": {**_NUMBERS, "description": "Of every class, in the order of the model."},
                    "displayNames": {**_TEXTS, "description": "The most probable labels, the first one first."},
                    "ids": {**_TEXTS, "description": "Their indices."},
                    "confidences": {**_NUMBERS, "description": "Their probabilities."},
                },
            },
        }
    },
}
EXAMPLE = {
    "predictions": [
        {
            "label": "pants",
            "index": 1,
            "probability": 0.97,
            "classes": 1,
            "probabilities": [0.02, 0.97, 0.01],
            "displayNames": ["pants", "dress"],
            "ids": ["1", "0"],
            "confidences": [0.97, 0.02],
        }
    ]
}


async def read(body: Body) -> Query:
    """A body of `instances` with `parameters`; what else is in it is passed over. Raises ServiceError."""
    return query_of(body, await body.json(), "instances")


def query_of(body: Body, asked: dict[str, Any], name: str) -> Query:
    """What a body asks about its instances, which it has under this name. Its option: the least probability shown."""
    parameters = {} if asked.get("parameters") is None else asked["parameters"]
    if not isinstance(parameters, dict):
        raise BadParameter(f"parameters is {kind_of(parameters)}; expected an object.")
    top_k = _first(parameters, _top_k, "top_k", "maxPredictions")
    least = _first(parameters, _share, "confidence_threshold", "confidenceThreshold")
    pictures = pictures_of(body, asked.get(name), name)
    return Query(pictures, top_k or DEFAULT_TOP_K, options=least or 0)


def pictures_of(body: Body, instances: object, name: str) -> list[Picture]:
    """The pictures of a list of instances, in order. Raises: as Body.picture."""
    if not isinstance(instances, list):
        raise BadParameter(f"{name} is {kind_of(instances)}; expected a list.")
    expect_some(len(instances), body.limits.max_images)
    return [_picture(body, instance, f"{name}[{position}]") for position, instance in enumerate(instances)]


def answer(answered: Answered) -> Response:
    """A prediction for each instance."""
    return Response(to_json({"predictions": predictions_of(answered)}), media_type=JSON)


def predictions_of(answered: Answered) -> Sequence[dict[str, Any]]:
    """What clients of each protocol look for, side by side: nobody knows who asks."""
    least = answered.query.options
    return [_prediction(classified, least) for classified in answered.answers]


def _prediction(classified: Classified, least: float) -> dict[str, Any]:
    best = classified.predictions[0]
    shown = [one for one in classified.predictions if one["probability"] >= least]
    return {
        **best,
        "classes": best["index"],
        "probabilities": classified.scores.probabilities.tolist(),
        "displayNames": [one["label"] for one in shown],
        "ids": [str(one["index"]) for one in shown],
        "confidences": [one["probability"] for one in shown],
    }


def _picture(body: Body, instance: object, where: str) -> Picture:
    value = instance
    if isinstance(value, dict):
        name = _name_in(value, where)
        value, where = value[name], f"{where}.{name[:_SHOWN]}"
    if isinstance(value, dict):
        value, where = value.get(_B64), f"{where}.{_B64}"
    return pixels_of(value, where) if isinstance(value, list) else body.picture(value, where)


def _name_in(instance: dict[str, Any], where: str) -> str:
    """Under which name the object has its picture: one that is known, or the only one that is there."""
    for name in (*_NAMES, *instance) if len(instance) == 1 else _NAMES:
        if name in instance:
            return name
    names = ", ".join(repr(name[:_SHOWN]) for name in list(instance)[: len(_NAMES)])
    raise BadParameter(f"{where} has {names or 'nothing in it'}; expected a picture as {' or '.join(_NAMES)}.")


def _first(parameters: dict[str, Any], read: Callable[[object, str], Any], *names: str) -> Any:
    """The first that is given of those that mean the same; each is read."""
    values = [read(parameters.get(name), name) for name in names]
    return next((value for value in values if value is not None), None)


def _top_k(value: object, name: str) -> int | None:
    """A whole number may come as 5.0: protobuf's values have no other."""
    return whole_number(int(value) if isinstance(value, float) and value.is_integer() else value, name)


def _share(value: object, name: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
        raise BadParameter(f"{name} is {str(value)[:_SHOWN]}; expected a number from 0 to 1.")
    return value
