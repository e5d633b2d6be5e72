"""What OpenAPI says of each endpoint for clients: its parameters, bodies and examples, and the errors it answers with.

FastAPI, which would answer in its own way, reads none of the parameters: http/dispatcher.py does.
"""

from collections.abc import Sequence
from typing import Any

from app.api.classification import CLIENT_ID, TIMEOUT
from app.api.endpoint import Operation
from app.api.openapi import CLASSIFICATION, HEALTH, MODELS, Responses, answered, described
from app.api.schemas import BatchBody, ClassifyBody, ExplanationBody, FeedbackBody, FeedbackWanted
from app.collection.collection import UnknownRequest
from app.errors import (
    BadApiKey,
    BadImage,
    BadParameter,
    BadRequest,
    DeadlinePassed,
    Forbidden,
    InferenceFailed,
    NotReady,
    OutOfMemory,
    QueueFull,
    TooManyBytes,
    TooManyPixels,
    UnsupportedFormat,
    UploadsFull,
)
from app.explanation.baselines import BASELINES
from app.explanation.masks import METHODS
from app.explanation.wanted import DEFAULT_BASELINE, DEFAULT_METHOD
from app.http.dispatcher import Parameter
from app.http.multipart import FIELD
from app.serving.cards import NoCard
from app.serving.registry import UnknownModel

_TOP_K = Parameter(
    "top_k",
    int | None,
    "How many labels to return; at most the number of classes. Default 5.",
    {"type": "integer", "minimum": 1, "examples": [3]},
)
_MODEL = Parameter(
    "model",
    str,
    "Which of several bundles answers, by its name in /models.",
    {"type": "string", "examples": ["fashion-mnist"]},  # one beside the schema would be sent from /docs
)
_THRESHOLD = Parameter(
    "threshold",
    float | None,
    "The energy below which an answer is uncertain. Default: the model's own `spec.energy_threshold`, if it has one.",
    {"type": "number", "examples": [4.2]},
)
_SET = Parameter(
    "set",
    float | None,
    "Adds a set of labels that has the true one with this probability, for pictures like those in `sets` of /model. A "
    "model without them refuses.",
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "examples": [0.95]},
)
CLASSIFY_PARAMETERS = (_TOP_K, _MODEL, _THRESHOLD, _SET)
_TARGET = Parameter(
    "target",
    str | None,
    "The label to explain, or its index. Default: the most probable one.",
    {"type": "string", "examples": ["dress"]},
)
_METHOD = Parameter(
    "method",
    str | None,
    "`occlusion` hides one patch after the other; `rise` random parts of the picture, several times as often.",
    {"type": "string", "enum": [*METHODS], "default": DEFAULT_METHOD},
)
_BASELINE = Parameter(
    "baseline",
    str | None,
    "What a hidden patch shows: the `mean` color of the picture, that of its `border`, or a `blur` of it.",
    {"type": "string", "enum": [*BASELINES], "default": DEFAULT_BASELINE},
)
EXPLAIN_PARAMETERS = (_TARGET, _METHOD, _BASELINE, _MODEL)
_TIMEOUT_HEADER = {
    "name": TIMEOUT,
    "in": "header",
    "required": False,
    "description": "Milliseconds after which the client has no use for the answer. What cannot be answered by then is "
    "refused at once. At most the service's own limit counts.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "examples": [2000]},
}

_CLIENT_ID_HEADER = {
    "name": CLIENT_ID,
    "in": "header",
    "required": False,
    "description": "Whom the answer is for, in any words: while two models share the requests that name none, the same "
    "client always gets the same model.",
    "schema": {"type": "string", "examples": ["visitor-4711"]},
}

_FILE = {"type": "string", "format": "binary"}
_ONE_FILE = {"type": "object", "required": [FIELD], "properties": {FIELD: _FILE}}
_MANY_FILES = {"type": "object", "required": [FIELD], "properties": {FIELD: {"type": "array", "items": _FILE}}}
_FORM = "multipart/form-data"
# image/* is taken, too, but is not among them: generators of clients refuse the asterisk.
_ONE_IMAGE = {_FORM: {"schema": _ONE_FILE}, "application/octet-stream": {"schema": _FILE}}
_ANY_IMAGE = (
    "A form, or the picture's bytes alone, whose type may be any `image/*`, too: the format is read from the bytes."
)

_NAMED = {"name": "fashion-mnist", "version": "1", "precision": "int8"}
_PREDICTIONS = [
    {"label": "Ankle boot", "index": 9, "probability": 0.9979},
    {"label": "Sneaker", "index": 7, "probability": 0.0020},
]
_CERTAINTY = {"uncertain": False, "energy": 8.31, "set": {"coverage": 0.95, "labels": ["Ankle boot"]}}
_RESULTS = [
    {"filename": "ankle-boot.png", "predictions": _PREDICTIONS, **_CERTAINTY},
    {
        "filename": "notes.txt",
        "error": {
            "code": "bad_picture",
            "detail": "The file is text; expected JPEG, PNG, WebP, GIF, BMP or TIFF.",
        },
    },
]
_ENTRY = {
    "name": "fashion-mnist",
    "model": "fashion-mnist",
    "version": "1",
    "precision": "int8",
    "num_classes": 10,
    "ready": True,
}

_CARD: Responses = {
    200: {
        "description": "Markdown, or JSON where Accept prefers it (the fields of the Model Card Toolkit, 0.0.2)",
        "content": {
            "text/markdown": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}

_REQUEST = (BadApiKey, BadParameter, BadRequest, DeadlinePassed, NotReady, QueueFull)
_BODY = (TooManyBytes, UnknownModel, UnsupportedFormat, UploadsFull)
_IMAGE = (BadImage, InferenceFailed, OutOfMemory, TooManyPixels)  # of a batch they are an entry's


_EXPLANATION = {
    "model": _NAMED,
    "target": {"label": "Ankle boot", "index": 9, "probability": 0.9979},
    "method": "occlusion",
    "baseline": "mean",
    "unit": "logit",
    "runs": 5,
    "grid": {"rows": 2, "columns": 2, "values": [[0.1, -0.02], [1.7, 2.4]]},
    "region": {"left": 0.0, "top": -20.0, "right": 640.0, "bottom": 620.0, "width": 640, "height": 600, "turned": 0.0},
}


def _request(
    content: dict[str, Any], description: str, parameters: Sequence[Parameter] = CLASSIFY_PARAMETERS
) -> dict[str, Any]:
    body = {"required": True, "description": description, "content": content}
    described_parameters = [*(one.described() for one in parameters), _TIMEOUT_HEADER, _CLIENT_ID_HEADER]
    return {"requestBody": body, "parameters": described_parameters}


def _or_png(answer: Responses) -> Responses:
    content = answer[200]["content"] | {"image/png": {"schema": _FILE}}
    return {200: answer[200] | {"content": content}}


CLASSIFY = Operation(
    "classify",
    "Classify one picture",
    CLASSIFICATION,
    answered(
        "Labels, most probable first", {"model": _NAMED, "predictions": _PREDICTIONS, **_CERTAINTY}, model=ClassifyBody
    )
    | described(*_REQUEST, *_BODY, *_IMAGE),
    _request(_ONE_IMAGE, _ANY_IMAGE),
)
CLASSIFY_BATCH = Operation(
    "classify_batch",
    "Classify many pictures; a bad one spoils only its own entry",
    CLASSIFICATION,
    answered(
        "An entry for each picture, in the order they were sent",
        {"model": _NAMED, "results": _RESULTS},
        model=BatchBody,
    )
    | described(*_REQUEST, *_BODY),
    _request({_FORM: {"schema": _MANY_FILES}}, "A form with a field for each picture."),
)
_TAR = {"application/x-tar": {"schema": _FILE}, _FORM: {"schema": _MANY_FILES}}
_LINES = """{"position": 1, "name": "notes.txt", "error": {"code": "bad_picture", "detail": "The file is text; ..."}}
{"position": 0, "name": "a.jpg", "model": {...}, "predictions": [...], "uncertain": false, "energy": 8.3}
{"end": {"images": 2, "failed": 1}}
"""
_ANSWERED_IN_LINES: Responses = {
    200: {
        "description": "A line of JSON for each picture, in the order they are done, and one for the end, which says "
        "how many there were, and what ended the body early if anything did",
        "content": {"application/x-ndjson": {"schema": {"type": "string"}, "example": _LINES}},
    }
}
STREAM = Operation(
    "classify_stream",
    "Classify any number of pictures, each answered as it is done",
    CLASSIFICATION,
    _ANSWERED_IN_LINES | described(*_REQUEST, *_BODY),
    _request(_TAR, "A tar, be it compressed by gzip, or a form with a field for each picture, of any length."),
)
EXPLAIN = Operation(
    "explain",
    "Show what in a picture carries its label",
    CLASSIFICATION,
    _or_png(
        answered(
            "A number for each patch, as JSON; as a PNG where Accept prefers it, the picture with them laid over it",
            _EXPLANATION,
            model=ExplanationBody,
        )
    )
    | described(*_REQUEST, *_BODY, *_IMAGE),
    _request(_ONE_IMAGE, _ANY_IMAGE, EXPLAIN_PARAMETERS),
)
_REQUEST_ID = "4c1c5f9d2f6b4e0f9a4be9d7c1d3b2a0"
_SAID = {"request_id": _REQUEST_ID, "label": "Sneaker"}
FEEDBACK = Operation(
    "feedback",
    "Say what a picture really shows",
    CLASSIFICATION,
    answered(
        "The label is written beside the picture",
        {"request_id": _REQUEST_ID, "index": 0, "label": "Sneaker", "predicted": "Ankle boot", "right": False},
        model=FeedbackBody,
    )
    | described(
        BadApiKey, BadParameter, BadRequest, DeadlinePassed, Forbidden, NotReady, QueueFull, TooManyBytes,
        UnknownRequest, UnsupportedFormat, UploadsFull,
    ),
    {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": FeedbackWanted.model_json_schema(), "example": _SAID}},
        }
    },
)  # fmt: skip
MODEL = Operation(
    "get_model",
    "What answers here",
    MODELS,
    described(BadApiKey, BadParameter, UnknownModel),
    {"parameters": [_MODEL.described()]},
)
CARD = Operation(
    "get_model_card",
    "Its model card: uses, measurements, limits",
    MODELS,
    _CARD | described(BadApiKey, BadParameter, NoCard, UnknownModel),
    {"parameters": [_MODEL.described()]},
)
LIST_MODELS = Operation(
    "list_models",
    "Every bundle that is served here",
    MODELS,
    answered("Every bundle", {"default": "fashion-mnist", "models": [_ENTRY], "shadow": None}) | described(BadApiKey),
)
LIVE = Operation(
    "live",
    "200 while the process can answer",
    HEALTH,
    answered("The process can answer", {"status": "live"}) | described(),
)
READY = Operation("ready", "200 while a stored picture gets its stored answer", HEALTH, described(NotReady))
