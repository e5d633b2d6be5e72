"""What OpenAPI says of the endpoints of other protocols: bodies, answers, and their own form of every error."""

from typing import Any

from app.api.openapi import Responses, described
from app.errors import (
    BadApiKey,
    BadImage,
    BadParameter,
    BadRequest,
    DeadlinePassed,
    InferenceFailed,
    NotReady,
    OutOfMemory,
    QueueFull,
    ServiceError,
    TooManyBytes,
    TooManyPixels,
    UnsupportedFormat,
    UploadsFull,
)
from app.http.problems import Form
from app.serving.registry import UnknownModel

_PICTURES: tuple[type[ServiceError], ...] = (
    BadApiKey, BadImage, BadParameter, BadRequest, DeadlinePassed, InferenceFailed, NotReady, OutOfMemory, QueueFull,
    TooManyBytes, TooManyPixels, UnknownModel, UnsupportedFormat, UploadsFull,
)  # fmt: skip


def asked_as(content: dict[str, dict[str, Any]], *parameters: dict[str, Any], description: str = "") -> dict[str, Any]:
    """What FastAPI does not know of a request: the schema of its body by media type, and its parameters."""
    body = {
        "required": True,
        "description": description,
        "content": {media_type: {"schema": schema} for media_type, schema in content.items()},
    }
    return {"requestBody": body, "parameters": list(parameters)}


def in_path(name: str, description: str, example: str) -> dict[str, Any]:
    """A part of the path, in the words of OpenAPI."""
    schema = {"type": "string", "examples": [example]}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


MODEL = in_path("model", "The name of a bundle, as in /models.", "clothes")
VERSION = in_path("version", "The version of that bundle.", "1")


def answered_as(
    body: Any, example: object, form: Form, *errors: type[ServiceError], pictures: bool = True
) -> Responses:
    """A successful answer in JSON, and errors in this `form`. `pictures`: whether with all those about pictures.

    `body`: the type of the answer, or its schema.
    """
    typed = {"schema": body} if isinstance(body, dict) else {}
    answer = {"description": "Answered", "content": {"application/json": {**typed, "example": example}}}
    named = {} if typed else {"model": body}
    return {200: {**answer, **named}} | described(*errors, *(_PICTURES if pictures else ()), form=form)
