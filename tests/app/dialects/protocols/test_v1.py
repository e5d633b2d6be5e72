""":predict and :classify of KServe v1 and TensorFlow Serving: paths, versions, keys."""

import gzip
import json

import pytest

from tests.app.dialects.wire import BLUE_PNG, GREEN_PNG, b64, expect_error
from tests.app.in_process import Serve

MODEL = "/v1/models/colours"
INSTANCES = {"instances": [{"b64": b64(GREEN_PNG)}, {"b64": b64(BLUE_PNG)}]}
EXAMPLES = {"examples": [{"image": {"b64": b64(GREEN_PNG)}}, {"x": b64(BLUE_PNG)}], "context": {"place": "here"}}


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/7"])
async def test_predict_and_classify_with_a_version_or_without(serve: Serve, path: str) -> None:
    async with serve() as service:
        predicted = (await service.http.post(f"{path}:predict", json=INSTANCES)).json()["predictions"]
        classified = (await service.http.post(f"{path}:classify", json=EXAMPLES)).json()["results"]
    assert [one["label"] for one in predicted] == ["green", "blue"]
    assert [[label for label, _ in one] for one in classified] == [["green", "red", "blue"], ["blue", "red", "green"]]
    for one, scores in zip(predicted, classified, strict=True):
        assert sorted(score for _, score in scores) == sorted(one["probabilities"])


async def test_a_body_may_be_compressed_and_of_any_type(serve: Serve) -> None:
    content = gzip.compress(json.dumps(INSTANCES).encode())
    async with serve() as service:
        answer = await service.http.post(f"{MODEL}:predict", content=content, headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 200, answer.text


async def test_explain_says_of_each_instance_what_explain_does(serve: Serve) -> None:
    parameters = {"target": "red", "method": "occlusion", "baseline": "border"}
    async with serve() as service:
        answer = await service.http.post(f"{MODEL}:explain", json={**INSTANCES, "parameters": parameters})
        own = await service.http.post("/explain?target=red&baseline=border", content=GREEN_PNG)
        plain = await service.http.post(f"{MODEL}:explain", json=INSTANCES)
    first, second = answer.json()["explanations"]
    assert first == own.json()
    assert (second["target"]["label"], second["baseline"]) == ("red", "border")
    assert [one["target"]["label"] for one in plain.json()["explanations"]] == ["green", "blue"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([], "parameters is a list; expected an object."),
        ({"target": 1}, "parameters.target is a number; expected text."),
        ({"method": "x"}, "method is 'x'; expected occlusion or rise."),
    ],
)
async def test_explain_refuses_other_parameters(serve: Serve, parameters: object, words: str) -> None:
    async with serve() as service:
        answer = await service.http.post(f"{MODEL}:explain", json={**INSTANCES, "parameters": parameters})
    expect_error(answer, 422, words)


async def test_an_error_about_one_instance_of_several_names_it(serve: Serve) -> None:
    both = {"instances": [{"b64": b64(GREEN_PNG)}, {"b64": b64(b"hello")}]}
    async with serve() as service:
        expect_error(await service.http.post(f"{MODEL}:explain", json=both), 400, "Picture 1: ")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/flowers:predict", 404, "model is 'flowers'; this service has colours"),
        (f"{MODEL}/versions/8:predict", 404, " has 7."),
        (f"{MODEL}/versions/8:classify", 404, " has 7."),
        (f"{MODEL}:regress", 405, "is not served here"),
        (f"{MODEL}:classify", 422, "examples is null; expected a list."),
        (f"{MODEL}/labels/stable:predict", 404, "is not served here"),
    ],
)
async def test_errors_have_the_text_that_clients_show(serve: Serve, path: str, status: int, words: str) -> None:
    async with serve() as service:
        expect_error(await service.http.post(path, json=INSTANCES), status, words)


async def test_what_is_asked_with_post_is_asked_with_nothing_else(serve: Serve) -> None:
    async with serve() as service:
        for path in (MODEL, f"{MODEL}/versions/7"):
            for verb in ("predict", "classify"):
                answer = await service.http.get(f"{path}:{verb}")
                expect_error(answer, 405, "expected POST.")
                assert answer.headers["allow"] == "POST"


async def test_a_key_is_asked_for_where_there_is_one(serve: Serve) -> None:
    key = "a-key-of-sixteen-characters"
    async with serve(api_keys=key) as service:
        expect_error(await service.http.post(f"{MODEL}:predict", json=INSTANCES), 401, "no API key")
        headers = {"Authorization": f"Bearer {key}"}
        assert (await service.http.post(f"{MODEL}:predict", json=INSTANCES, headers=headers)).status_code == 200
