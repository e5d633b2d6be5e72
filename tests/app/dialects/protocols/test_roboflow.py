"""Roboflow's classification: the registry, /infer/classification and /NAME/VERSION, and keys in the query."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.app.color_bundle import GREEN, image
from tests.app.dialects.hostile import GREEN_BASE64, NO_OBJECTS, RED_BASE64, bodies, expect_no_failure
from tests.app.in_process import Serve
from tests.app.problem_answers import expect_problem

V1, V0 = "/infer/classification", "/colours/7"
KEY = "a-key-of-sixteen-characters"


def asked(*pictures: str, **changes: Any) -> dict[str, Any]:
    """As inference-sdk asks: one picture alone, or a list."""
    images = [{"type": "base64", "value": one} for one in pictures]
    told = {"api_key": "k", "model_id": "colours/7", "visualize_predictions": False, "disable_active_learning": False}
    return {**told, "image": images[0] if len(images) == 1 else images, **changes}


def expect_error(answer: Any, status: int, *words: str) -> None:
    """Check an error whose text the client shows."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    body = answer.json()
    assert body["message"] == body["detail"]
    for word in words:
        assert word in body["message"]


async def test_a_picture_gets_every_class_the_most_probable_first(serve: Serve) -> None:
    async with serve() as service:
        answer = (await service.http.post(V1, json=asked(GREEN_BASE64))).json()
    assert [(one["class"], one["class_id"]) for one in answer["predictions"]] == [("green", 1), ("red", 0), ("blue", 2)]
    assert sum(one["confidence"] for one in answer["predictions"]) == pytest.approx(1)
    assert (answer["top"], answer["confidence"]) == ("green", answer["predictions"][0]["confidence"])
    assert 0 < answer["time"] < 60
    assert len(answer["inference_id"]) == 36


async def test_several_pictures_are_answered_with_a_list(serve: Serve) -> None:
    async with serve() as service:
        answer = (await service.http.post(V1, json=asked(GREEN_BASE64, RED_BASE64))).json()
        single = (
            await service.http.post(V1, json=asked(GREEN_BASE64) | {"image": [asked(GREEN_BASE64)["image"]]})
        ).json()
    assert [one["top"] for one in answer] == ["green", "red"]
    assert [one["top"] for one in single] == ["green"]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
async def test_v0_takes_base64_whatever_its_type(serve: Serve, content_type: str) -> None:
    async with serve() as service:
        headers = {"content-type": content_type}
        answer = await service.http.post(f"{V0}?api_key=k", content=GREEN_BASE64.encode(), headers=headers)
    assert answer.json()["top"] == "green"


async def test_the_registry_has_the_id_that_requests_name(serve: Serve) -> None:
    async with serve() as service:
        (model,) = (await service.http.get("/model/registry?api_key=k")).json()["models"]
        expect_error(await service.http.post("/model/add", json={"model_id": "flowers/1"}), 404, "has colours/7.")
    size = {"batch_size": None, "input_height": None, "input_width": None}
    assert model == {"model_id": "colours/7", "task_type": "classification", **size}


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"model_id": "flowers/7"}, 404, "model is 'flowers'; this service has colours."),
        ({"model_id": "colours/8"}, 404, "version is '8'; colours has 7."),
        ({"model_id": 1}, 422, "model_id is no text; expected NAME/VERSION."),
        ({"image": {"type": "url", "value": "http://x/y.png"}}, 422, "image.type is 'url'; expected 'base64'."),
        ({"image": {"type": "base64", "value": "http://x/y.png"}}, 400, "Addresses are not fetched"),
        ({"image": {"type": "base64"}}, 422, "image.value is null; expected a picture file as text in base64."),
        ({"image": []}, 422, "The request has no picture; expected at least 1."),
        ({"image": [GREEN_BASE64, "AAAA"]}, 400, "Picture 1: "),
        ({"image": ["AAAA"] * 999}, 413, "The request has 999 pictures; expected at most "),
    ],
)
async def test_errors_name_thing_value_and_expectation(
    serve: Serve, changes: dict[str, Any], status: int, words: str
) -> None:
    async with serve() as service:
        expect_error(await service.http.post(V1, json=asked(GREEN_BASE64, **changes)), status, words)


async def test_v0_fetches_no_address(serve: Serve) -> None:
    async with serve() as service:
        expect_error(await service.http.post(f"{V0}?image=http://x/y.png"), 400, "Addresses are not fetched")
        expect_error(await service.http.post("/flowers/1", content=b"AAAA"), 404, "model is 'flowers'")


@pytest.mark.parametrize("path", [V1, V0])
async def test_a_key_may_be_in_the_query_and_none_is_looked_for_in_the_body(serve: Serve, path: str) -> None:
    content = {"json": asked(GREEN_BASE64, api_key=KEY)} if path == V1 else {"content": GREEN_BASE64}
    async with serve(api_keys=KEY) as service:
        expect_error(await service.http.post(path, **content), 401, "no API key")
        expect_error(await service.http.post(f"{path}?api_key=other", **content), 401, "not known")
        assert (await service.http.post(f"{path}?api_key={KEY}", **content)).status_code == 200
        bearer = {"authorization": f"Bearer {KEY}"}
        assert (await service.http.post(f"{path}?api_key=other", headers=bearer, **content)).status_code == 200
        assert (await service.http.get("/model/registry")).status_code == 401
        assert (await service.http.get(f"/model/registry?api_key={KEY}")).status_code == 200


@pytest.mark.parametrize("path", ["/admin/other", "/classify/7", "/models/colours", "/docs/7", "/hf/7", "/v1/7"])
async def test_paths_that_begin_as_the_services_own_are_no_models(serve: Serve, path: str) -> None:
    async with serve() as service:
        answer = await service.http.post(path, content=GREEN_BASE64)
    assert (answer.status_code, answer.json().get("top")) == (404, None)
    assert "is not served here" in answer.text


async def test_only_post_is_a_model_s(serve: Serve) -> None:
    async with serve() as service:
        expect_problem(await service.http.get(V0), 404, "not_found")
        reload = await service.http.post("/admin/reload")
        expect_problem(reload, 403, "forbidden")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=bodies("model_id", "image", names=("type", "value", "image")))
async def test_no_json_makes_the_service_fail(serve: Serve, sent: list[dict[str, Any]]) -> None:
    async with serve() as service:
        for body in sent:
            expect_no_failure(await service.http.post(V1, json={"model_id": "colours/7", **body}), body)


@pytest.mark.parametrize("path", [V1, V0])
@pytest.mark.parametrize("content", [*NO_OBJECTS, image(GREEN)])
async def test_what_is_no_json_object_is_refused(serve: Serve, path: str, content: bytes) -> None:
    async with serve() as service:
        expect_error(await service.http.post(path, content=content), 400)
