"""What the OpenAPI document says beyond the types: tags, examples, headers, every error that an operation answers with.

Knows nothing of how requests are answered.
"""

from typing import Any

from app.api import schemas
from app.errors import ServiceError
from app.http.problems import PROBLEM_JSON, Form, Problem

CLASSIFICATION, MODELS, HEALTH, OPERATORS = "classification", "models", "health", "operators"

_TAGS = {
    CLASSIFICATION: "Images in, labels with probabilities out.",
    MODELS: "What is served, how it runs, and the limits that a client has to keep.",
    HEALTH: "For load balancers and orchestrators; no key is needed.",
    OPERATORS: "Metrics, and what changes the service; for keys of operators.",
}
ABOUT: dict[str, Any] = {
    "summary": "Image classification with an MLP-Mixer on ONNX Runtime.",
    "description": (
        "Every error is an RFC 9457 problem: programs look at `code`, people at `detail`. Endpoints of other protocols "
        "tell of the same errors in the form of theirs. The exceptions are answers of the connection itself, in plain "
        "text: 400 for what is no HTTP, 431 for too many bytes of headers, and 503 beyond the limit of connections."
    ),
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "openapi_tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
}

_DETAILS = {
    "bad_picture": "The file starts with 68 65 6c 6c 6f and is no picture; expected JPEG, PNG, WebP, GIF, BMP or TIFF.",
    "bad_request": "The multipart body ends before its closing boundary.",
    "bad_api_key": "The request has no API key; expected Authorization: Bearer KEY, or X-API-Key: KEY.",
    "forbidden": "No key for operators is configured; expected MIXER_ADMIN_KEYS or MIXER_ADMIN_KEYS_FILE.",
    "no_card": "fashion-mnist has no model card; expected README.md and card.json in its bundle, as mixer card writes.",
    "no_embedding": "flowers has no output 'embedding'; expected a bundle exported by this version or later.",
    "unknown_model": "model is 'flowers'; this service has fashion-mnist.",
    "unknown_request": "No picture is kept as 4c1c5f9d2f6b4e0f-0; expected the X-Request-ID of an answer whose picture "
    "a rule chose, and its position in the request.",
    "reload_refused": "fashion-mnist: The canary picture's logits are off by 3.2; expected at most 0.05.",
    "too_many_bytes": "The body has 30000000 bytes; expected at most 20971520.",
    "too_many_pixels": "The picture declares 20000 x 20000 pixels; expected at most 50000000 in all.",
    "unsupported_format": "The content encoding is 'gzip'; expected none: send it as it is.",
    "bad_parameter": "top_k is 900; expected 1 to 10, the number of classes.",
    "queue_full": "512 of 512 places in the queue are taken; expected room for 1. Try again in 1 s.",
    "uploads_full": "The service holds 134217728 of 134217728 bytes of uploads; expected room for 1. Try again in 1 s.",
    "inference_failed": "The engine failed on this picture; the service's log says why.",
    "internal_error": "The service failed on this request; its log says why.",
    "out_of_memory": "The picture was not decoded: the service has no memory left for it. Try again later.",
    "not_ready": "The service is draining; expected a request to another instance.",
    "deadline_passed": "The body had not arrived after 30 s; 17 bytes had.",
}
_EVERY_ANSWER = ("X-Request-ID", "Server-Timing")
_HEADERS_OF = {401: ("WWW-Authenticate",), 429: ("Retry-After",)}
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The client's own where it is 1 to 64 letters, digits, dots, underscores or hyphens, else a new "
        "one; the log has it, too.",
        "schema": {"type": "string"},
        "example": "4c1c5f9d2f6b4e0f9a4be9d7c1d3b2a0",
    },
    "Server-Timing": {
        "description": "Milliseconds of each stage that the request came to, and in all.",
        "schema": {"type": "string"},
        "example": 'receive;dur=0.31, decode;dur=0.42, queue;dur=0.05, infer;dur=1.20, batch;desc="3", total;dur=2.05',
    },
    "Retry-After": {
        "description": "In how many seconds there is likely to be room.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
    "WWW-Authenticate": {"description": "How to show a key.", "schema": {"type": "string"}, "example": "Bearer"},
}

Responses = dict[int | str, dict[str, Any]]


def answered(description: str, example: object, *, model: object = None) -> Responses:
    """A successful answer in JSON, of the type `model` where the endpoint does not say."""
    response: dict[str, Any] = {"description": description, "content": {"application/json": {"example": example}}}
    return {200: response if model is None else response | {"model": model}}


def described(*errors: type[ServiceError], form: Form = PROBLEM_JSON) -> Responses:
    """The answers to these errors, and to what nobody expected, in this `form`, with an example of each."""
    by_status: dict[int | str, list[type[ServiceError]]] = {}
    every: set[type[ServiceError]] = {*errors, ServiceError}
    for error in sorted(every, key=lambda error: (error.status, error.code)):
        by_status.setdefault(form.status_of(error.status), []).append(error)
    return {status: _response(alike, form) for status, alike in by_status.items()}


def complete(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """FastAPI's document with the problem's schema and the headers that are referred to, and the service's address.

    `prefix`: below which path clients see it; where that is not known, the address is relative to the document's own.
    """
    for item in document["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {}).update(_references(_EVERY_ANSWER))
    components = document["components"]
    components["headers"] = _HEADERS
    components["schemas"]["Problem"] = schemas.Problem.model_json_schema(mode="serialization")
    server = {"url": prefix} if prefix else {"url": ".", "description": "Where this document is"}
    return document | {"servers": [server]}


def _response(errors: list[type[ServiceError]], form: Form) -> dict[str, Any]:
    status = form.status_of(errors[0].status)
    typed: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}} if form.body is None else {}
    return {
        "description": "; ".join(f"{error.title} (`{error.code}`)" for error in errors),
        "headers": _references(_HEADERS_OF.get(status, ())),
        "content": {
            form.media_type: {
                **typed,
                "examples": {
                    error.code: {"summary": error.title, "value": form.json(_example(error, status))}
                    for error in errors
                },
            }
        },
        **({} if form.body is None else {"model": form.body}),
    }


def _example(error: type[ServiceError], status: int) -> Problem:
    return Problem(status, error.code, error.title, _DETAILS[error.code])


def _references(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
