"""Answers of HTTP -> values, or errors. Whatever is not as the service answers is a BadAnswer."""

import json
from array import array
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from sys import byteorder
from typing import Any, TypeVar

import httpx

from mixer_client.answers import (
    Classification,
    Embedding,
    Explanation,
    Grid,
    LabelSet,
    ModelInfo,
    ModelName,
    Models,
    Prediction,
    Region,
)
from mixer_client.errors import BadAnswer, ServiceError, class_of
from mixer_client.retries import told_s

_T = TypeVar("_T")
_SHOWN = 200  # bytes of an answer that is not understood
_MISFITS = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError)


def classification_of(answer: httpx.Response) -> Classification:
    """The answer of /classify. Raises BadAnswer."""
    return _read(answer, _classification)


def explanation_of(answer: httpx.Response) -> Explanation:
    """The answer of /explain. Raises BadAnswer."""
    return _read(answer, _explanation)


def models_of(answer: httpx.Response) -> Models:
    """The answer of /models. Raises BadAnswer."""
    return _read(answer, _models)


def embedding_of(answer: httpx.Response) -> "array[float]":
    """The one embedding in an answer of /v1/embeddings: array of float32, of length 1. Raises BadAnswer."""
    return _read(answer, _embedding)


def raw_embedding_of(answer: httpx.Response) -> Embedding:
    """The one output in an answer of the Open Inference Protocol, and whose it is. Raises BadAnswer."""
    return _read(answer, _raw_embedding)


def error_of(answer: httpx.Response) -> ServiceError:
    """The error that an answer with a status of 400 and above tells, in any of the service's forms."""
    try:
        body = json.loads(answer.content)
        told = body["error"] if isinstance(body.get("error"), dict) else body
        code, detail = str(told["code"]), str(told["detail"] if "detail" in told else told["message"])
    except _MISFITS:
        code, detail = "http_error", _beginning(answer) or answer.reason_phrase
    return class_of(code)(code, answer.status_code, detail, _request_id(answer), told_s(answer.headers))


def timing_of(header: str) -> tuple[dict[str, float], int | None]:
    """Server-Timing -> milliseconds by stage, and how many images ran together where it says so.

    What is no number is left out: proxies add theirs.
    """
    stages: dict[str, float] = {}
    batch_size = None
    for part in header.split(","):
        name, *parameters = map(str.strip, part.split(";"))
        for parameter in parameters:
            kind, _, told = parameter.partition("=")
            with suppress(ValueError):
                if kind == "dur":
                    stages[name] = float(told.strip('"'))
                elif name == "batch" and kind == "desc":
                    batch_size = int(told.strip('"'))
    return stages, batch_size


def _read(answer: httpx.Response, read: Callable[[Any, httpx.Response], _T]) -> _T:
    try:
        return read(json.loads(answer.content), answer)
    except _MISFITS as error:
        shown = f"{answer.status_code} {_beginning(answer)!r}"
        raise BadAnswer(f"{answer.url.path} answers {shown}; expected the JSON of mixer-serve.") from error


def _beginning(answer: httpx.Response) -> str:
    """As text, whatever character set it claims to have."""
    return answer.content[:_SHOWN].decode("utf-8", "replace")


def _classification(body: Any, answer: httpx.Response) -> Classification:
    timing, batch_size = timing_of(answer.headers.get("server-timing", ""))
    predictions = tuple(map(_prediction, body["predictions"]))
    told = body.get("set")
    return Classification(
        model=_model(body["model"]),
        predictions=(predictions[0], *predictions[1:]),  # IndexError where there is none
        uncertain=body.get("uncertain"),
        energy=body.get("energy"),
        set=None if told is None else LabelSet(told["coverage"], tuple(told["labels"])),
        request_id=_request_id(answer),
        timing=timing,
        batch_size=batch_size,
    )


def _explanation(body: Any, answer: httpx.Response) -> Explanation:
    grid, region = body["grid"], body["region"]
    return Explanation(
        model=_model(body["model"]),
        method=str(body["method"]),
        baseline=str(body["baseline"]),
        unit=str(body["unit"]),
        runs=int(body["runs"]),
        target=_prediction(body["target"]),
        grid=Grid(grid["rows"], grid["columns"], tuple(tuple(map(float, row)) for row in grid["values"])),
        region=Region(
            *(region[name] for name in ("left", "top", "right", "bottom", "width", "height")),
            *([float(region["turned"])] if "turned" in region else []),  # which earlier versions do not tell
        ),
        request_id=_request_id(answer),
        timing=timing_of(answer.headers.get("server-timing", ""))[0],
    )


def _models(body: Any, answer: httpx.Response) -> Models:
    names = ("name", "model", "version", "precision", "num_classes", "ready")
    return Models(str(body["default"]), tuple(ModelInfo(*(one[name] for name in names)) for one in body["models"]))


def _embedding(body: Any, answer: httpx.Response) -> "array[float]":
    embedding = array("f", b64decode(body["data"][0]["embedding"], validate=True))
    if byteorder == "big":
        embedding.byteswap()
    return embedding


def _raw_embedding(body: Any, _: httpx.Response) -> Embedding:
    told = body.get("parameters") or {}
    is_told = "model" in told and "precision" in told
    model = ModelName(str(told["model"]), str(body["model_version"]), str(told["precision"])) if is_told else None
    return Embedding(array("f", body["outputs"][0]["data"]), model)


def _model(told: Mapping[str, Any]) -> ModelName:
    return ModelName(str(told["name"]), str(told["version"]), str(told["precision"]))


def _prediction(told: Mapping[str, Any]) -> Prediction:
    return Prediction(str(told["label"]), int(told["index"]), float(told["probability"]))


def _request_id(answer: httpx.Response) -> str:
    request_id: str = answer.headers.get("x-request-id", "")
    return request_id
