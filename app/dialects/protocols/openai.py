"""OpenAI's embeddings, of pictures: data URIs or base64 where that API has texts; vectors of length 1.

As the openai packages send it; input also as objects with `image` or `image_url`, and as vLLM's `messages`.
"""

import base64
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION
from app.dialects import forms
from app.dialects.descriptions import answered_as, asked_as
from app.dialects.dialect import Answered, Dialect, Query, Route
from app.dialects.reading import Body, expect_some, whole_number
from app.dialects.serving import Serving
from app.errors import BadParameter
from app.inference.scores import NoEmbedding

_JSON = "application/json"
_FORMATS = ("float", "base64")
_IMAGE, _IMAGE_URL = "image", "image_url"  # of an object, what holds its picture


class Embedding(BaseModel):
    """That of one picture."""

    object: Literal["embedding"]
    index: int = Field(description="Its position among the inputs.")
    embedding: list[float] | str = Field(
        description="A vector of length 1; as little-endian float32 in base64 where encoding_format asks for it."
    )


class Usage(BaseModel):
    """Pictures have no tokens."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """Those of the pictures of a request, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


def dialect(serving: Serving) -> Dialect:
    """POST /v1/embeddings for the model that the body names, or the default."""
    return Dialect((Route("/v1/embeddings", _operation(), _read, _answer, forms.OPENAI),))


async def _read(body: Body) -> Query:
    asked = await body.json()
    model = asked.get("model")
    if model is not None and not isinstance(model, str):
        raise BadParameter("model is no text; expected the name of a model.")
    encoding = asked.get("encoding_format") or "float"
    if encoding not in _FORMATS:
        raise BadParameter(f"encoding_format is {str(encoding)[:40]!r}; expected {' or '.join(_FORMATS)}.")
    dimensions = whole_number(asked.get("dimensions"), "dimensions")
    inputs = _of_messages(asked["messages"]) if "input" not in asked and "messages" in asked else _of_input(asked)
    expect_some(len(inputs), body.limits.max_images)
    pictures = [_picture(body, value, where) for where, value in inputs]
    return Query(pictures, top_k=1, model=model, options=(encoding, dimensions), comparable=True)


def _of_input(asked: dict[str, Any]) -> list[tuple[str, Any]]:
    """What each picture is called, and what holds it."""
    values = asked.get("input")
    if not isinstance(values, list):
        return [("input", values)]
    return [(f"input[{at}]", value) for at, value in enumerate(values)]


def _of_messages(messages: Any) -> list[tuple[str, Any]]:
    """The one picture of a conversation, which has one embedding; any text beside it would be lost."""
    parts = []
    for at, message in enumerate(messages if isinstance(messages, list) else [messages]):
        content = message.get("content") if isinstance(message, dict) else message
        within = content if isinstance(content, list) else [content]
        parts += [(f"messages[{at}].content[{part}]", value) for part, value in enumerate(within)]
    if len(parts) != 1:
        raise BadParameter(f"messages has {len(parts)} parts; expected 1, an image_url: send several as input.")
    return parts


def _picture(body: Body, value: Any, where: str) -> bytes:
    for name in (_IMAGE, _IMAGE_URL, "url"):
        if isinstance(value, dict) and name in value:
            value, where = value[name], f"{where}.{name}"
    return body.picture(value, where)


def _answer(answered: Answered) -> Response:
    encoding, dimensions = answered.query.options
    name, dim = answered.model.name, answered.model.classifier.expect_embedding()
    if dimensions not in (None, dim):
        raise BadParameter(f"dimensions is {dimensions}; {name} has {dim}.")
    embeddings = (one.scores.embedding for one in answered.answers)
    told = [_told(embedding, encoding) for embedding in embeddings if embedding is not None]
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(told)]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return Response(to_json({"object": "list", "data": data, "model": name, "usage": usage}), media_type=_JSON)


def _told(embedding: NDArray[np.float32], encoding: str) -> str | list[float]:
    """Of length 1, in little-endian float32; one of length 0 stays what it is."""
    exact = embedding.astype(np.float64)
    unit = (exact / (np.linalg.norm(exact) or 1)).astype("<f4")
    return base64.b64encode(unit.tobytes()).decode() if encoding == "base64" else unit.tolist()


def _operation() -> Operation:
    text = {"type": "string", "description": "A picture file as data:image/...;base64,... or in base64 alone."}
    item = {"anyOf": [text, {"type": "object", "properties": {_IMAGE: text}}]}
    body: dict[str, Any] = {
        "type": "object",
        "required": ["input"],
        "properties": {
            "input": {"anyOf": [text, {"type": "array", "minItems": 1, "items": item}]},
            "model": {"type": "string", "description": "The name of a bundle; else the default.", "example": "clothes"},
            "encoding_format": {"type": "string", "enum": [*_FORMATS], "default": "float"},
            "dimensions": {"type": "integer", "minimum": 1, "description": "The model's own, or none."},
            "user": {"type": "string", "description": "Ignored."},
        },
    }
    answer = answered_as(Embeddings, _EXAMPLE, forms.OPENAI, NoEmbedding)
    return Operation(
        "embeddings", "Embed pictures, as OpenAI's clients ask", CLASSIFICATION, answer, asked_as({_JSON: body})
    )


_EXAMPLE = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
    "model": "clothes",
    "usage": {"prompt_tokens": 0, "total_tokens": 0},
}
