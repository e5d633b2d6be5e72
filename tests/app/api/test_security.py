"""The OpenAPI document says how to show a key, for every operation that takes one, and whether one is needed."""

from typing import Any

import pytest
import schemathesis

from tests.app.in_process import Serve
from tests.app.problem_answers import expect_problem

KEY, ADMIN = "a-key-of-sixteen-characters", "another-key-for-operators"
FREE_PORT = 9  # nobody listens in these tests
EITHER: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
WITH_A_KEY = {
    ("post", "/classify"),
    ("post", "/classify/batch"),
    ("post", "/classify/stream"),
    ("post", "/explain"),
    ("get", "/model"),
    ("get", "/model/card"),
    ("get", "/models"),
    ("post", "/feedback"),
}
OPEN = {("get", "/health/live"), ("get", "/health/ready")}


def required(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """What each operation requires."""
    operations = document["paths"].items()
    return {
        (method, path): operation.get("security") for path, item in operations for method, operation in item.items()
    }


async def document_of(serve: Serve, **options: Any) -> Any:
    async with serve(**{"dialects": "", **options}) as service:  # those have tests of their own
        return (await service.http.get("/openapi.json")).json()


async def test_a_key_is_a_bearers_or_a_header(serve: Serve) -> None:
    schemes = (await document_of(serve))["components"]["securitySchemes"]
    assert {name: {**scheme, "description": ""} for name, scheme in schemes.items()} == {
        "bearer": {"type": "http", "scheme": "bearer", "description": ""},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": ""},
    }


@pytest.mark.parametrize(("keys", "images"), [({"api_keys": KEY}, EITHER), ({}, [*EITHER, {}])], ids=["keys", "none"])
async def test_either_is_enough_and_none_where_no_keys_are_configured(
    keys: dict[str, str], images: object, serve: Serve
) -> None:
    assert required(await document_of(serve, **keys)) == {
        **dict.fromkeys(WITH_A_KEY, images),
        **dict.fromkeys(OPEN, None),
        ("get", "/metrics"): None,
        ("post", "/admin/reload"): EITHER,  # whatever is configured, nobody enters without
    }


async def test_protected_metrics_take_a_key(serve: Serve) -> None:
    document = await document_of(serve, admin_keys=ADMIN, protect_metrics=True)
    assert required(document)["get", "/metrics"] == EITHER


async def test_what_has_a_port_of_its_own_is_not_described(serve: Serve) -> None:
    assert set(required(await document_of(serve, admin_port=FREE_PORT, admin_keys=ADMIN))) == WITH_A_KEY | OPEN


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}])
async def test_either_opens_every_operation_that_takes_a_key(headers: dict[str, str], serve: Serve) -> None:
    async with serve(api_keys=KEY) as service:
        for method, path in WITH_A_KEY:
            assert (await service.http.request(method, path)).status_code == 401, path
            assert (await service.http.request(method, path, headers=headers)).status_code != 401, path


@pytest.mark.heavy
async def test_a_consumer_of_the_document_knows_what_to_send(serve: Serve) -> None:
    schema = schemathesis.openapi.from_dict(await document_of(serve, api_keys=KEY))
    operations = {(one.method, one.path): one for one in (found.ok() for found in schema.get_all_operations())}
    for operation in WITH_A_KEY:
        shown = {(one.scheme_type, one.name) for one in operations[operation].security.iter_parameters()}
        assert shown == {("http", "Authorization"), ("apiKey", "X-API-Key")}


# --- parameters ---


async def test_fastapi_reads_no_parameter_and_promises_no_answer_of_its_own(serve: Serve) -> None:
    document = await document_of(serve)
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])
    answered_422 = {
        (method, path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "422" in operation["responses"]
    }
    assert answered_422 == WITH_A_KEY - {("get", "/models")}


@pytest.mark.parametrize("path", ["/classify", "/classify%0A", "/classify/batch", "/classify/batch%0A"])
async def test_what_fastapi_takes_for_the_same_path_is_answered_alike(path: str, serve: Serve) -> None:
    async with serve() as service:  # its pattern ends in $, which matches before a line break, too
        answer = await service.http.post(f"{path}?top_k=abc")
        expect_problem(answer, 422, "bad_parameter", "top_k is 'abc': Input should be a valid integer")
