"""Every error on purpose has its own status, code and title, and becomes an RFC 9457 answer."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

import app
from app import errors
from app.errors import BadSettings, ClientGone, EngineError, QueueFull, ServiceError, StartError
from app.http import problems
from app.server.supervisor import WorkerFailed
from cli.reload import ReloadFailed
from tests.app.asgi import AsgiCall
from tests.app.problem_answers import _TITLES, expect_problem_body

for module in pkgutil.walk_packages(app.__path__, "app."):  # an error is known once its module is
    importlib.import_module(module.name)


def below(kind: type[Exception]) -> Iterator[type[Exception]]:
    """Every class of app/ and cli/ that is a `kind`, without itself."""
    for child in kind.__subclasses__():
        if child.__module__.startswith(("app.", "cli.")):
            yield child
            yield from below(child)


SERVICE_ERRORS = [kind for kind in below(ServiceError) if issubclass(kind, ServiceError)]
START_ERRORS = [StartError, *(kind for kind in below(StartError) if issubclass(kind, StartError))]


def request() -> Request:
    return Request(AsgiCall("/somewhere", method="PATCH")._scope)


def raised(kind: type[ServiceError]) -> ServiceError:
    return kind("It is full.", 3) if issubclass(kind, QueueFull) else kind("Something is wrong.")


@pytest.mark.parametrize("kind", SERVICE_ERRORS)
async def test_every_error_is_answered_as_its_class_says(kind: type[ServiceError]) -> None:
    error = raised(kind)
    answer = await problems.from_service_error(request(), error)
    assert answer.media_type == "application/problem+json"
    expect_problem_body(json.loads(bytes(answer.body)), kind.status, kind.code, str(error))
    for name, value in error.headers.items():
        assert answer.headers[name] == value


def test_an_error_keeps_the_headers_of_the_kind_that_it_is_of() -> None:
    headers = {kind.__name__: raised(kind).headers for kind in SERVICE_ERRORS if raised(kind).headers}
    assert headers == {
        "BadApiKey": {"WWW-Authenticate": "Bearer"},
        "QueueFull": {"Retry-After": "3"},
        "UploadsFull": {"Retry-After": "3"},
        "Draining": {"Connection": "close"},
    }


def test_codes_are_stable_and_no_two_errors_share_one_but_the_two_that_are_not_ready() -> None:
    codes = {kind.code: kind.status for kind in SERVICE_ERRORS}
    assert len(codes) == len(SERVICE_ERRORS) - 1
    assert {kind.__name__ for kind in SERVICE_ERRORS if kind.code == "not_ready"} == {"NotReady", "Draining"}
    assert codes == {
        "bad_picture": 400,
        "bad_request": 400,
        "bad_api_key": 401,
        "forbidden": 403,
        "no_card": 404,
        "no_embedding": 404,
        "unknown_model": 404,
        "unknown_request": 404,
        "reload_refused": 409,
        "too_many_bytes": 413,
        "too_many_pixels": 413,
        "unsupported_format": 415,
        "bad_parameter": 422,
        "queue_full": 429,
        "uploads_full": 429,
        "head_too_large": 431,
        "inference_failed": 500,
        "unknown_transfer_coding": 501,
        "out_of_memory": 503,
        "too_many_connections": 503,
        "not_ready": 503,
        "deadline_passed": 504,
    }
    assert set(codes) <= set(_TITLES)


def drawn() -> dict[str, tuple[str, str]]:
    """Of every class in the docstring's tree: whose child it is, and the words behind it."""
    tree: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│ ]*(?:[├└]── )?)([A-Z]\w+)(?: {2,}(.*))?$", line):
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            assert match[2] not in tree
            tree[match[2]] = (above[depth - 1] if depth else "", match[3] or "")
    return tree


def test_the_tree_in_the_docstring_names_exactly_the_errors_there_are_under_their_parents() -> None:
    kinds = [ServiceError, *SERVICE_ERRORS, ClientGone, *START_ERRORS]
    parents = {kind.__name__: kind.__base__.__name__ for kind in kinds if kind.__base__ is not None}
    assert {name: parent for name, (parent, _) in drawn().items()} == {"Exception": "", **parents}


def test_the_tree_in_the_docstring_has_the_status_and_the_file_of_each() -> None:
    tree = drawn()
    for kind in SERVICE_ERRORS:
        assert tree[kind.__name__][1].startswith(f"{kind.status}  "), kind
    for start in START_ERRORS:
        assert tree[start.__name__][1].startswith("its own  " if start is WorkerFailed else f"{start.exit_code}  ")
    for other in [*SERVICE_ERRORS, *START_ERRORS]:
        file = re.search(r"\(([\w/]+)\.py\)$", tree[other.__name__][1])
        module = file[1].replace("/", ".") if file else "errors"
        assert other.__module__ in {f"app.{module}", module}, other


def test_the_statuses_in_the_tree_rise() -> None:
    statuses = [int(words[:3]) for _, words in drawn().values() if re.match(r"\d{3}  ", words)]
    assert statuses == sorted(statuses)
    assert len(statuses) == len(SERVICE_ERRORS)


def test_what_cannot_start_has_an_exit_code() -> None:
    codes = {kind: kind.exit_code for kind in START_ERRORS if kind is not WorkerFailed}
    assert codes == {StartError: 1, BadSettings: 2, EngineError: 3, ReloadFailed: 1}
    assert WorkerFailed("The worker could not start.", 7).exit_code == 7


async def test_any_other_http_error_keeps_its_status_and_headers() -> None:
    answer = await problems.from_http_exception(request(), HTTPException(418, headers={"X-Pot": "tea"}))
    assert answer.status_code == 418
    assert answer.headers["x-pot"] == "tea"
    body = json.loads(bytes(answer.body))
    assert (body["code"], body["title"]) == ("http_error", "HTTP error")
    assert body["detail"] == "PATCH /somewhere is not served here; GET /docs lists what is."
