"""`instances` in every shape that clients send, and what is told of each; nobody's JSON makes the service fail."""

from collections.abc import Mapping
from typing import Any

import httpx
import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.dialects.wire import BLUE_PNG, GREEN_PNG, RED_PNG, b64, expect_error, values
from tests.app.in_process import Serve

PATH = "/v1/models/colours:predict"
RED_64 = b64(RED_PNG)
PIXELS = [[[0, 255, 0]] * 2] * 2
WRONG = {
    "no instances": ({}, 422, "instances is null"),
    "null": ({"instances": None}, 422, "instances is null"),
    "no list": ({"instances": {"b64": RED_64}}, 422, "instances is an object"),
    "an empty list": ({"instances": []}, 422, "no picture"),
    "too many": ({"instances": ["A"] * 4}, 413, "4 pictures; expected at most 3"),
    "a number": ({"instances": [1]}, 422, "instances[0] is a number"),
    "null in the list": ({"instances": [RED_64, None]}, 422, "instances[1] is null"),
    "an empty object": ({"instances": [{}]}, 422, "instances[0] has nothing in it"),
    "names nobody knows": ({"instances": [{"x": 1, "y": 2}]}, 422, "has 'x', 'y'; expected a picture as b64 or image"),
    "no base64 below": ({"instances": [{"image": {"c": 1}}]}, 422, "instances[0].image.b64 is null"),
    "no base64": ({"instances": [{"b64": "%%"}]}, 400, "instances[0].b64 is '%%'"),
    "an address": ({"instances": [{"image": "http://x/a.png"}]}, 400, "Addresses are not fetched"),
    "no picture": ({"instances": [RED_64, {"b64": "aGVsbG8="}]}, 400, "Picture 1: The file starts with"),
    "pixels of two channels": ({"instances": [RED_64, [[[1, 2]]]]}, 400, "Picture 1: The pixels are 1 x 1 x 2"),
    "pixels divided by 255": ({"instances": [[[0.5]]]}, 400, "instances[0] has fractions"),
    "no object of parameters": ({"instances": [RED_64], "parameters": [1]}, 422, "parameters is a list"),
    "parameters that are nothing": ({"instances": [RED_64], "parameters": False}, 422, "parameters is a truth value"),
    "a threshold that is true": (
        {"instances": [RED_64], "parameters": {"confidenceThreshold": True}}, 422, "confidenceThreshold is True",
    ),
    "a top_k of 0": ({"instances": [RED_64], "parameters": {"top_k": 0}}, 422, "top_k is 0"),
    "a top_k of a half": ({"instances": [RED_64], "parameters": {"maxPredictions": 0.5}}, 422, "maxPredictions is 0.5"),
    "a top_k of many digits": ({"instances": [RED_64], "parameters": {"top_k": -(10**4000)}}, 422, "top_k is -1000"),
    "pixels of many digits": ({"instances": [[[10**4000]]]}, 400, "instances[0] has numbers below 0 or above 255"),
    "a threshold of 2": (
        {"instances": [RED_64], "parameters": {"confidenceThreshold": 2}}, 422, "confidenceThreshold is 2",
    ),
    "a threshold in words": (
        {"instances": [RED_64], "parameters": {"confidence_threshold": "x"}}, 422, "confidence_threshold is x",
    ),
}  # fmt: skip


def labels_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [prediction["label"] for prediction in answer.json()["predictions"]]


@pytest.mark.parametrize(
    "instance",
    [
        b64(GREEN_PNG),
        f"data:image/png;base64,{b64(GREEN_PNG)}",
        {"b64": b64(GREEN_PNG)},
        {"image": {"b64": b64(GREEN_PNG)}},
        {"image_bytes": {"b64": b64(GREEN_PNG)}, "key": "1"},
        {"data": b64(GREEN_PNG), "target": 0},
        {"content": b64(GREEN_PNG)},
        {"input_1": {"b64": b64(GREEN_PNG)}},
        PIXELS,
        {"image": PIXELS},
        {"input_1": PIXELS},
        [[[0.0, 255.0, 0.0]]],
    ],
    ids=str,
)
async def test_a_picture_comes_in_many_shapes(serve: Serve, instance: object) -> None:
    async with serve() as service:
        assert labels_of(await service.http.post(PATH, json={"instances": [instance]})) == ["green"]


async def test_each_instance_has_a_prediction_in_its_place(serve: Serve) -> None:
    instances = [b64(BLUE_PNG), PIXELS, {"b64": RED_64}, b64(BLUE_PNG)]
    async with serve() as service:
        answer = await service.http.post(PATH, json={"instances": instances, "signature_name": "serving_default"})
    assert labels_of(answer) == ["blue", "green", "red", "blue"]


async def test_a_prediction_has_what_clients_of_each_protocol_look_for(serve: Serve) -> None:
    async with serve() as service:
        native = (await service.http.post("/classify", content=GREEN_PNG)).json()["predictions"]
        answer = await service.http.post(
            PATH, json={"instances": [b64(GREEN_PNG)], "parameters": {"top_k": 2, "unknown": [1]}}
        )
    (prediction,) = answer.json()["predictions"]
    best = native[0]
    in_order = sorted(native, key=lambda one: int(one["index"]))
    assert prediction == {
        **best,
        "classes": 1,
        "probabilities": [one["probability"] for one in in_order],
        "displayNames": [one["label"] for one in native[:2]],
        "ids": [str(one["index"]) for one in native[:2]],
        "confidences": [one["probability"] for one in native[:2]],
    }


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({}, 3),
        (None, 3),
        ({"top_k": 1}, 1),
        ({"top_k": 900}, 3),
        ({"maxPredictions": 2.0}, 2),
        ({"top_k": None, "maxPredictions": 1}, 1),
        ({"confidence_threshold": 0.5}, 1),
        ({"confidenceThreshold": 1}, 0),
        ({"confidenceThreshold": 0}, 3),
    ],
)
async def test_parameters_say_how_many_labels_are_shown(
    serve: Serve, parameters: Mapping[str, Any] | None, shown: int
) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, json={"instances": [RED_64], "parameters": parameters})
    (prediction,) = answer.json()["predictions"]
    assert {len(prediction[name]) for name in ("displayNames", "ids", "confidences")} == {shown}
    assert (prediction["label"], len(prediction["probabilities"])) == ("red", 3)


async def test_the_examples_of_the_document_are_answered(serve: Serve) -> None:
    async with serve(predict_route="/predict") as service:
        paths = (await service.http.get("/openapi.json")).json()["paths"]
        for path in ("/predict", "/invocations", "/v1/models/{model}:predict", "/v1/models/{model}:classify"):
            schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
            for example in schema["examples"]:
                jsonschema_rs.validate(schema, example)
                answer = await service.http.post(path.replace("{model}", "colours"), json=example)
                assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_is_named_with_its_place(serve: Serve, case: str) -> None:
    sent, status, words = WRONG[case]
    async with serve(max_images_per_request=3) as service:
        expect_error(await service.http.post(PATH, json=sent), status, words)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"instances": [NaN]}', b"[" * 100_000, b'{"a": "\\ud800"}'])
async def test_what_is_no_json_object_is_refused(serve: Serve, content: bytes) -> None:
    async with serve() as service:
        expect_error(await service.http.post(PATH, content=content), 400, "The body is")


async def test_a_million_values_are_refused_before_they_are_parsed(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, content=b'{"instances":[' + b"1," * 1_000_000 + b"1]}")
        expect_error(answer, 413, "values; expected at most 1000000")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(
        st.fixed_dictionaries({}, optional={"instances": values(), "parameters": values(), "inputs": values()}),
        min_size=5,
        max_size=5,
    )
)
async def test_no_json_makes_the_service_fail(serve: Serve, bodies: list[Any]) -> None:
    async with serve() as service:
        for body in bodies:
            for path in (PATH, "/invocations", "/v1/models/colours:classify"):
                sent = body | {"examples": body.get("instances")} if "classify" in path else body
                answer = await service.http.post(path, json=sent)
                assert answer.status_code == 200 or 400 <= answer.status_code < 500, (body, answer.text)
        assert service.metrics.inside == 0
