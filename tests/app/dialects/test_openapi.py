"""The OpenAPI document has every operation of every dialect, with what it takes, and its errors in its own form."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from app.dialects.forms import form_of
from app.dialects.names import NAMES
from app.http.dispatcher import Application
from tests.app.in_process import Serve

Operations = dict[tuple[str, str], dict[str, Any]]
ERROR_TYPES = {
    "/hf": "ErrorBody",
    "/infer": "MessageBody",
    "/model/add": "MessageBody",
    "/model/registry": "MessageBody",
    "/{model}/{version}": "MessageBody",
    "/v1/embeddings": "OpenAIErrorBody",
}


async def described(serve: Serve, dialects: str) -> tuple[dict[str, Any], Operations, Application]:
    """The document, its operations and the application, where these dialects are spoken."""
    async with serve(dialects=dialects) as service:
        document = (await service.http.get("/openapi.json")).json()
    items = document["paths"].items()
    app = service.app
    assert isinstance(app, Application)
    return document, {(method, path): one for path, item in items for method, one in item.items()}, app


async def of_dialects(serve: Serve) -> tuple[dict[str, Any], Operations]:
    """The document, and the operations that only dialects have."""
    document, every, _ = await described(serve, "all")
    _, own, _ = await described(serve, "")
    return document, {at: one for at, one in every.items() if at not in own}


def within(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in there, but for examples."""
    if isinstance(value, dict):
        yield value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if name not in ("example", "examples"):
            yield from within(part)


def examples_of(content: dict[str, Any]) -> Iterator[Any]:
    """Of one media type."""
    if "example" in content:
        yield content["example"]
    yield from (one["value"] for one in content.get("examples", {}).values())


@pytest.mark.heavy
async def test_the_document_is_valid(serve: Serve) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    document, _, _ = await described(serve, "all")
    validator.validate(document)


async def test_ids_and_paths_are_each_of_one_operation(serve: Serve) -> None:
    _, every, _ = await described(serve, "all")
    ids = [one["operationId"] for one in every.values()]
    assert len(ids) == len(set(ids))
    shapes = [(method, re.sub(r"{\w+}", "{}", path)) for method, path in every]
    assert len(shapes) == len(set(shapes))


@pytest.mark.parametrize("dialects", ["", *NAMES, "all"])
async def test_what_is_dispatched_is_described(serve: Serve, dialects: str) -> None:
    _, every, app = await described(serve, dialects)
    dispatched = {(method.lower(), path) for method, path in app._dispatched}
    assert dispatched <= set(every)
    told = {at for at in every if at not in dispatched}
    assert all(app.pattern_of(method.upper(), path) is None for method, path in told)


async def test_every_name_in_a_path_is_a_parameter_with_an_example(serve: Serve) -> None:
    document, operations = await of_dialects(serve)
    for (_, path), operation in operations.items():
        parameters = operation.get("parameters", [])
        in_path = {one["name"] for one in parameters if one["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path)), path
        for parameter in parameters:
            assert parameter["description"]
            for example in parameter["schema"].get("examples", []):
                expect_valid(example, parameter["schema"], document)


async def test_what_is_sent_about_pictures_is_described(serve: Serve) -> None:
    _, operations, app = await described(serve, "all")
    for (method, path), operation in operations.items():
        assert operation["summary"]
        assert "FastAPI" not in operation["description"]  # whose methods are called has a docstring for others
        if (method.upper(), path) in app._dispatched:
            for content in operation["requestBody"]["content"].values():
                assert content["schema"].get("type") in ("object", "string", "array"), path


async def test_a_generator_of_clients_knows_every_type(serve: Serve) -> None:
    document, every, _ = await described(serve, "all")
    for operation in every.values():
        content = operation.get("requestBody", {}).get("content", {})
        known = {"application/json", "application/octet-stream", "application/x-tar", "multipart/form-data"}
        assert set(content) <= known
    for schema in within(document):
        assert schema.get("type") != "array" or "items" in schema, schema


async def test_examples_of_answers_and_errors_are_valid(serve: Serve) -> None:
    document, operations = await of_dialects(serve)
    shown = 0
    for (_, path), operation in operations.items():
        for status, answer in operation["responses"].items():
            for media_type, content in answer.get("content", {}).items():
                assert content["schema"] not in ({}, {"type": "object"}), (path, status, media_type)
                for example in examples_of(content):
                    expect_valid(example, content["schema"], document)
                    shown += 1
    assert shown > 5 * len(operations)


async def test_errors_have_the_type_of_their_protocol(serve: Serve) -> None:
    _, operations = await of_dialects(serve)
    for (method, path), operation in operations.items():
        if operation["tags"] == ["health"]:
            continue  # which may have one answer, ready or not
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"401", "500"} <= set(errors) or method == "get", path
        types = [content["schema"] for one in errors.values() for content in one["content"].values()]
        name = types[0]["$ref"].rpartition("/")[2]
        assert all(one == {"$ref": f"#/components/schemas/{name}"} for one in types), path
        expected = [found for start, found in ERROR_TYPES.items() if path.startswith(start)]
        assert expected in ([], [name])
        if not path.startswith("/{"):
            body = form_of(path).body
            assert body is not None
            assert name == body.__name__, path


def expect_valid(value: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """The value is as described, and has nothing that is not."""
    schemas = document["components"]["schemas"].items()
    closed = {name: one | {"additionalProperties": False} if "properties" in one else one for name, one in schemas}
    jsonschema_rs.validate({**schema, "components": {"schemas": closed}}, value)
