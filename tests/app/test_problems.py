"""Every error on purpose has its own status, code and title, and becomes an RFC 9457 answer."""

import json

import pytest
from asgi import AsgiCall
from problem_answers import _TITLES, expect_problem_body
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app import errors, problems
from app.errors import BadSettings, EngineError, QueueFull, ServiceError, StartError


def request() -> Request:
    return Request(AsgiCall("/somewhere", method="PATCH")._scope)


@pytest.mark.parametrize("kind", ServiceError.__subclasses__())
async def test_every_error_is_answered_as_its_class_says(kind: type[ServiceError]) -> None:
    error = QueueFull("It is full.", 3) if kind is QueueFull else kind("Something is wrong.")
    answer = await problems.from_service_error(request(), error)
    assert answer.media_type == "application/problem+json"
    expect_problem_body(json.loads(bytes(answer.body)), kind.status, kind.code, str(error))
    for name, value in error.headers.items():
        assert answer.headers[name] == value


def test_codes_are_stable_and_no_two_errors_share_one() -> None:
    codes = {kind.code: kind.status for kind in ServiceError.__subclasses__()}
    assert len(codes) == len(ServiceError.__subclasses__())
    assert codes == {
        "bad_picture": 400,
        "bad_request": 400,
        "bad_api_key": 401,
        "forbidden": 403,
        "unknown_model": 404,
        "reload_refused": 409,
        "too_many_bytes": 413,
        "too_many_pixels": 413,
        "unsupported_format": 415,
        "bad_parameter": 422,
        "queue_full": 429,
        "inference_failed": 500,
        "not_ready": 503,
        "deadline_passed": 504,
    }
    assert set(codes) <= set(_TITLES)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    for kind in ServiceError.__subclasses__():
        line = next(line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line)
        assert f" {kind.status} " in line


def test_what_cannot_start_has_an_exit_code() -> None:
    assert (StartError.exit_code, BadSettings.exit_code, EngineError.exit_code) == (1, 2, 3)


async def test_any_other_http_error_keeps_its_status_and_headers() -> None:
    answer = await problems.from_http_exception(request(), HTTPException(418, headers={"X-Pot": "tea"}))
    assert answer.status_code == 418
    assert answer.headers["x-pot"] == "tea"
    body = json.loads(bytes(answer.body))
    assert (body["code"], body["title"]) == ("http_error", "HTTP error")
    assert body["detail"] == "PATCH /somewhere is not served here; GET /docs lists what is."
