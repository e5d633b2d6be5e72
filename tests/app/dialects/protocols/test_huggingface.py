"""Hugging Face's image classification: pictures alone or in JSON, labels with scores, errors that its clients show."""

import base64
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.app.color_bundle import GREEN, image
from tests.app.dialects.hostile import GREEN_BASE64, NO_OBJECTS, bodies, expect_no_failure
from tests.app.dialects.wire import expect_error
from tests.app.in_process import Serve

PATHS = ("/hf", "/hf/models/colours", "/")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", ""])
async def test_the_body_is_the_picture_whatever_its_type(serve: Serve, path: str, content_type: str) -> None:
    async with serve() as service:
        answer = await service.http.post(path, content=image(GREEN), headers={"content-type": content_type})
    assert answer.headers["content-type"] == "application/json"
    assert [one["label"] for one in answer.json()] == ["green", "red", "blue"]
    assert sum(one["score"] for one in answer.json()) == pytest.approx(1)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (2**70, 3), (None, 3)])
async def test_more_labels_than_there_are_means_all(serve: Serve, top_k: int | None, count: int) -> None:
    async with serve() as service:
        asked = {"inputs": GREEN_BASE64, "parameters": {"top_k": top_k, "unknown": 1}}
        assert len((await service.http.post("/hf", json=asked)).json()) == count


async def test_without_a_function_scores_are_logits(serve: Serve) -> None:
    async with serve() as service:
        asked = {"inputs": GREEN_BASE64, "parameters": {"function_to_apply": "none"}}
        answer = (await service.http.post("/hf", json=asked)).json()
    assert [round(one["score"], 3) for one in answer] == [10, 0, 0]


@pytest.mark.parametrize(
    ("path", "asked", "status", "words"),
    [
        ("/hf/models/flowers", {"inputs": GREEN_BASE64}, 404, "model is 'flowers'; this service has colours."),
        ("/hf", {"inputs": "https://x/y.png"}, 400, "Addresses are not fetched"),
        ("/hf", {}, 422, "inputs is null; expected a picture file as text in base64."),
        ("/hf", {"inputs": GREEN_BASE64, "parameters": [1]}, 422, "parameters is no object; expected one."),
        ("/hf", {"inputs": GREEN_BASE64, "parameters": {"top_k": 0}}, 422, "top_k is 0; expected a whole number"),
        ("/hf", {"inputs": GREEN_BASE64, "parameters": {"function_to_apply": "sigmoid"}}, 422, "softmax or none"),
    ],
)
async def test_errors_name_thing_value_and_expectation(
    serve: Serve, path: str, asked: dict[str, Any], status: int, words: str
) -> None:
    async with serve() as service:
        expect_error(await service.http.post(path, json=asked), status, words)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=bodies("inputs", "parameters", names=("top_k", "function_to_apply", "inputs")))
async def test_no_json_makes_the_service_fail(serve: Serve, sent: list[dict[str, Any]]) -> None:
    async with serve() as service:
        for body in sent:
            expect_no_failure(await service.http.post("/hf", json=body), body)


@pytest.mark.parametrize("content", NO_OBJECTS)
async def test_what_is_no_json_object_is_refused(serve: Serve, content: bytes) -> None:
    async with serve() as service:
        answer = await service.http.post("/hf", content=content, headers={"content-type": "application/json"})
    expect_error(answer, 400)


async def test_a_form_and_a_number_in_the_query_and_no_labels_of_others(serve: Serve) -> None:
    async with serve() as service:
        files = {"file": ("green.png", base64.b64decode(GREEN_BASE64))}
        answer = await service.http.post("/hf?top_k=1", files=files)
        assert [one["label"] for one in answer.json()] == ["green"]
        for wrong in ("0", "many", "9" * 5000):
            refused = await service.http.post(f"/hf?top_k={wrong}", content=base64.b64decode(GREEN_BASE64))
            assert refused.status_code == 422
        body = {"inputs": GREEN_BASE64, "parameters": {"candidate_labels": ["a", "b"]}}
        assert "classes of its own" in (await service.http.post("/hf", json=body)).json()["error"]
