"""The OpenAPI document is what generators of clients and people need: names, tags, examples, and every error's type."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.app.color_bundle import RED, image
from tests.app.in_process import Serve

KEY, ADMIN = "a-key-of-sixteen-characters", "another-key-for-operators"
PROBLEM = {"$ref": "#/components/schemas/Problem"}
NAMES = {
    ("post", "/classify"): ("classify", "classification"),
    ("post", "/classify/batch"): ("classify_batch", "classification"),
    ("post", "/classify/stream"): ("classify_stream", "classification"),
    ("post", "/explain"): ("explain", "classification"),
    ("post", "/feedback"): ("feedback", "classification"),
    ("get", "/model"): ("get_model", "models"),
    ("get", "/model/card"): ("get_model_card", "models"),
    ("get", "/models"): ("list_models", "models"),
    ("get", "/health/live"): ("live", "health"),
    ("get", "/health/ready"): ("ready", "health"),
    ("get", "/metrics"): ("metrics", "operators"),
    ("post", "/admin/reload"): ("reload", "operators"),
}
ONE_PICTURE = {
    "400": {"bad_picture", "bad_request"},
    "401": {"bad_api_key"},
    "404": {"unknown_model"},
    "413": {"too_many_bytes", "too_many_pixels"},
    "415": {"unsupported_format"},
    "422": {"bad_parameter"},
    "429": {"queue_full", "uploads_full"},
    "500": {"inference_failed", "internal_error"},
    "503": {"not_ready", "out_of_memory"},
    "504": {"deadline_passed"},
}
MANY_PICTURES = {
    "400": {"bad_request"},
    "401": {"bad_api_key"},
    "404": {"unknown_model"},
    "413": {"too_many_bytes"},
    "415": {"unsupported_format"},
    "422": {"bad_parameter"},
    "429": {"queue_full", "uploads_full"},
    "500": {"internal_error"},
    "503": {"not_ready"},
    "504": {"deadline_passed"},
}
ERRORS = {
    "classify": ONE_PICTURE,
    "explain": ONE_PICTURE,
    "classify_batch": MANY_PICTURES,
    "classify_stream": MANY_PICTURES,
    "feedback": {
        "400": {"bad_request"},
        "401": {"bad_api_key"},
        "403": {"forbidden"},
        "404": {"unknown_request"},
        "413": {"too_many_bytes"},
        "415": {"unsupported_format"},
        "422": {"bad_parameter"},
        "429": {"queue_full", "uploads_full"},
        "500": {"internal_error"},
        "503": {"not_ready"},
        "504": {"deadline_passed"},
    },
    "get_model": {
        "401": {"bad_api_key"},
        "404": {"unknown_model"},
        "422": {"bad_parameter"},
        "500": {"internal_error"},
    },
    "get_model_card": {
        "401": {"bad_api_key"},
        "404": {"no_card", "unknown_model"},
        "422": {"bad_parameter"},
        "500": {"internal_error"},
    },
    "list_models": {"401": {"bad_api_key"}, "500": {"internal_error"}},
    "live": {"500": {"internal_error"}},
    "ready": {"500": {"internal_error"}, "503": {"not_ready"}},
    "metrics": {"500": {"internal_error"}},
    "reload": {
        "401": {"bad_api_key"},
        "403": {"forbidden"},
        "409": {"reload_refused"},
        "500": {"internal_error"},
        "503": {"not_ready"},
        "504": {"deadline_passed"},
    },
}


async def document_of(serve: Serve, **options: Any) -> Any:
    async with serve(**{"dialects": "", **options}) as service:  # those have tests of their own
        return (await service.http.get("/openapi.json")).json()


def operations_of(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): operation for path, item in document["paths"].items() for method, operation in item.items()}


def answers_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name of the operation, status, answer."""
    for operation in operations_of(document).values():
        for status, answer in operation["responses"].items():
            yield operation["operationId"], status, answer


def expect_valid(value: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """The value is as described, and has nothing that is not."""
    schemas = document["components"]["schemas"].items()
    closed = {name: one | {"additionalProperties": False} if "properties" in one else one for name, one in schemas}
    jsonschema_rs.validate({**schema, "components": {"schemas": closed}}, value)


async def test_operations_have_short_names_and_a_tag_that_is_described(serve: Serve) -> None:
    document = await document_of(serve)
    named = {at: (one["operationId"], *one["tags"]) for at, one in operations_of(document).items()}
    assert named == NAMES
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert set(tags) == {tag for _, tag in NAMES.values()}
    assert all(tags.values())


async def test_every_error_is_the_one_problem_and_has_an_example_of_each_code(serve: Serve) -> None:
    document = await document_of(serve)
    found: dict[str, dict[str, set[str]]] = {}
    for name, status, answer in answers_of(document):
        if status == "200":
            found.setdefault(name, {})
            continue
        ((media_type, content),) = answer["content"].items()
        assert (media_type, content["schema"]) == ("application/problem+json", PROBLEM)
        for code, example in content["examples"].items():
            assert (example["value"]["code"], example["value"]["status"]) == (code, int(status))
            assert example["value"]["type"] == f"urn:mixer-serve:{code}"
            expect_valid(example["value"], PROBLEM, document)
        found.setdefault(name, {})[status] = set(content["examples"])
    assert found == ERRORS


async def test_protected_metrics_may_refuse_a_key(serve: Serve) -> None:
    document = await document_of(serve, admin_keys=ADMIN, protect_metrics=True)
    assert set(document["paths"]["/metrics"]["get"]["responses"]) == {"200", "401", "500"}


async def test_examples_of_answers_are_answers(serve: Serve) -> None:
    document = await document_of(serve)
    shown = 0
    for _, status, answer in answers_of(document):
        content = answer["content"].get("application/json", {}) if status == "200" else {}
        if "example" in content:
            expect_valid(content["example"], content["schema"], document)
            shown += 1
    assert shown >= 5


async def test_every_answer_has_an_id_and_times_and_some_say_when_to_come_again(serve: Serve) -> None:
    document = await document_of(serve)
    for _, status, answer in answers_of(document):
        headers = {"X-Request-ID", "Server-Timing"}
        headers |= {"429": {"Retry-After"}, "401": {"WWW-Authenticate"}}.get(status, set())
        assert set(answer["headers"]) == headers
        for name, header in answer["headers"].items():
            assert header == {"$ref": f"#/components/headers/{name}"}
    for header in document["components"]["headers"].values():
        expect_valid(header["example"], header["schema"], document)


async def test_it_says_under_which_licence_and_where_the_service_is(serve: Serve) -> None:
    document = await document_of(serve)
    assert document["info"]["license"] == {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    (server,) = document["servers"]
    assert server["url"] == "."  # as seen from the document, wherever a proxy puts it


@pytest.mark.parametrize("name", ["classify", "classify_batch"])
async def test_parameters_have_examples_that_they_take(name: str, serve: Serve) -> None:
    document = await document_of(serve)
    (operation,) = (one for one in operations_of(document).values() if one["operationId"] == name)
    for parameter in operation["parameters"]:
        (example,) = parameter["schema"]["examples"]
        expect_valid(example, parameter["schema"], document)
        assert "example" not in parameter  # the page would send it: not every service has that model


async def test_bodies_have_types_that_generators_of_clients_know(serve: Serve) -> None:
    paths = (await document_of(serve))["paths"]
    taken = {path: set(paths[path]["post"]["requestBody"]["content"]) for path in ("/classify", "/classify/batch")}
    assert taken == {
        "/classify": {"multipart/form-data", "application/octet-stream"},
        "/classify/batch": {"multipart/form-data"},
    }


# --- what is really answered ---


def requests(http: httpx.AsyncClient) -> list[httpx.Request]:
    """Of every operation one that is answered with 200 where there is no key, and some that are not."""
    red, file = image(RED), {"file": ("red.png", image(RED))}
    build = http.build_request
    cut = {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}
    asked = [build(method.upper(), path, content=red if path == "/classify" else None) for method, path in NAMES]
    for path in ("/classify", "/classify/batch"):
        asked += [
            build("POST", path, files=file),
            build("POST", f"{path}?top_k=900", files=file),
            build("POST", f"{path}?model=nothing", files=file),
            build("POST", path, **cut),
            build("POST", path, content=b"{}", headers={"content-type": "application/json"}),
            build("POST", path, files={"file": ("large.png", b"x" * 5000)}),
            build("POST", path, files={"file": ("no.txt", b"hello, world")}),
            build("POST", path, files=file, headers={"x-request-timeout-ms": "0.000001"}),
        ]
    asked += [build("GET", "/model?model=nothing"), build("GET", "/model?topk=1")]
    return asked


@pytest.mark.parametrize("keys", [{}, {"api_keys": KEY}, {"admin_keys": ADMIN, "protect_metrics": True}])
async def test_what_is_answered_is_described(keys: dict[str, Any], serve: Serve) -> None:
    """Status, media type, schema, headers; for problems the code, too."""
    seen: set[int] = set()
    async with serve(max_image_bytes=4000, max_request_bytes=4000, **keys) as service:
        document = (await service.http.get("/openapi.json")).json()
        operations = operations_of(document)
        for request in requests(service.http):
            answer = await service.http.send(request)
            described_as = operations[request.method.lower(), request.url.path]["responses"][str(answer.status_code)]
            media_type = answer.headers["content-type"].partition(";")[0]
            content = described_as["content"][media_type]
            value = answer.text if media_type in ("text/plain", "application/x-ndjson") else answer.json()
            expect_valid(value, content["schema"], document)
            if answer.status_code >= 400:
                assert value["code"] in content["examples"]
            assert set(map(str.lower, described_as["headers"])) <= set(answer.headers)
            seen.add(answer.status_code)
    assert seen >= ({200, 401} if keys else {200, 400, 403, 404, 413, 415, 422})
