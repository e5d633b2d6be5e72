"""OpenAI's embeddings, of pictures: forms of input, encodings, errors as OpenAI's clients read them."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.app.color_bundle import image
from tests.app.dialects.hostile import GREEN_BASE64, NO_OBJECTS, RED_BASE64, bodies, expect_no_failure
from tests.app.in_process import Serve

PATH = "/v1/embeddings"
DATA_URI = f"data:image/png;base64,{RED_BASE64}"
KEY = "a-key-of-sixteen-characters"
PICTURES: dict[str, dict[str, Any]] = {
    "a data URI": {"input": DATA_URI},
    "base64": {"input": RED_BASE64},
    "a list": {"input": [DATA_URI]},
    "an object": {"input": [{"image": DATA_URI}]},
    "an image_url": {"input": [{"type": "image_url", "image_url": {"url": DATA_URI}}]},
    "messages": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA_URI}}]}]},
    "with more": {"input": DATA_URI, "modality": "image", "user": "u", "encoding_format": None, "dimensions": None},
}


def red(dimension: int) -> list[float]:
    """The toy's embedding of red pixels, of length 1."""
    pixels = np.tile([1.0, 0.0, 0.0], dimension // 3)
    return list(pixels / np.linalg.norm(pixels))


def expect_error(answer: Any, status: int, code: str, *words: str) -> None:
    """Check an error in OpenAI's form."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    (error,) = answer.json().values()
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert error == {"message": error["message"], "type": kind, "param": None, "code": code}
    for word in words:
        assert word in error["message"]


@pytest.mark.parametrize("asked", PICTURES.values(), ids=PICTURES)
async def test_a_picture_has_an_embedding_of_length_1(serve: Serve, asked: dict[str, Any]) -> None:
    async with serve() as service:
        answer = (await service.http.post(PATH, json={"model": "colours", **asked})).json()
    (told,) = answer.pop("data")
    embedding = told.pop("embedding")
    assert embedding == pytest.approx(red(len(embedding)), abs=1e-6)
    assert told == {"object": "embedding", "index": 0}
    assert answer == {"object": "list", "model": "colours", "usage": {"prompt_tokens": 0, "total_tokens": 0}}


async def test_base64_is_the_same_in_little_endian_float32_in_order(serve: Serve) -> None:
    async with serve() as service:
        asked = {"model": "colours", "input": [DATA_URI, GREEN_BASE64]}
        floats = (await service.http.post(PATH, json=asked)).json()["data"]
        encoded = (await service.http.post(PATH, json={**asked, "encoding_format": "base64"})).json()["data"]
    assert [one["index"] for one in floats] == [one["index"] for one in encoded] == [0, 1]
    for one, other in zip(floats, encoded, strict=True):
        assert np.frombuffer(base64.b64decode(other["embedding"]), "<f4").tolist() == one["embedding"]
    assert floats[0]["embedding"] != floats[1]["embedding"]


async def test_black_has_no_direction_and_is_told_as_it_is(serve: Serve) -> None:
    black = base64.b64encode(image((0, 0, 0))).decode()
    async with serve() as service:
        (told,) = (await service.http.post(PATH, json={"input": black})).json()["data"]
    assert set(told["embedding"]) == {0.0}


@pytest.mark.parametrize(
    ("changes", "status", "code", "words"),
    [
        ({"model": "text-embedding-3-small"}, 404, "model_not_found", "this service has colours."),
        ({"model": 1}, 422, "bad_parameter", "model is no text"),
        ({"input": "a text about clothes"}, 400, "bad_picture", "input is 'a text about clothes'; expected a picture"),
        ({"input": ["https://x/y.png"]}, 400, "bad_picture", "input[0] is 'https://x/y.png'; "),
        ({"input": ["https://x/y.png"]}, 400, "bad_picture", "Addresses are not fetched"),
        ({"input": [{"image_url": {"url": "http://x"}}]}, 400, "bad_picture", "input[0].image_url.url is 'http://x'"),
        ({"input": [[1, 2, 3]]}, 422, "bad_parameter", "input[0] is a list; expected a picture file"),
        ({"input": []}, 422, "bad_parameter", "no picture"),
        ({"input": None}, 422, "bad_parameter", "input is null"),
        ({"input": [DATA_URI, "AAAA"]}, 400, "bad_picture", "Picture 1: "),
        ({"input": ["AAAA"] * 999}, 413, "too_many_bytes", "The request has 999 pictures; expected at most "),
        ({"encoding_format": "int8"}, 422, "bad_parameter", "encoding_format is 'int8'; expected float or base64."),
        ({"encoding_format": ["float"]}, 422, "bad_parameter", "expected float or base64."),
        ({"dimensions": 3}, 422, "bad_parameter", "dimensions is 3; colours has 48."),
        ({"dimensions": "3"}, 422, "bad_parameter", "dimensions is 3; expected a whole number"),
    ],
)
async def test_errors_name_thing_value_and_expectation(
    serve: Serve, changes: dict[str, Any], status: int, code: str, words: str
) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, json={"model": "colours", "input": DATA_URI, **changes})
    expect_error(answer, status, code, words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a text", "messages[0].content[0] is 'a text'"),
        ([{"type": "text", "text": "Represent it."}], "messages[0].content[0] is an object"),
        ([{"image_url": {"url": DATA_URI}}, {"type": "text", "text": "red"}], "messages has 2 parts; expected 1"),
    ],
)
async def test_a_conversation_is_one_picture_and_no_text(serve: Serve, content: Any, words: str) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, json={"messages": [{"role": "user", "content": content}]})
    expect_error(answer, answer.status_code, answer.json()["error"]["code"], words)
    assert answer.status_code in (400, 422)


async def test_the_model_s_own_dimensions_may_be_asked_for(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, json={"input": DATA_URI, "dimensions": 48})
    assert len(answer.json()["data"][0]["embedding"]) == 48


async def test_a_key_is_a_bearers_and_an_unneeded_one_is_ignored(serve: Serve) -> None:
    bearer = {"authorization": f"Bearer {KEY}"}
    async with serve(api_keys=KEY) as service:
        expect_error(await service.http.post(PATH, json={"input": DATA_URI}), 401, "invalid_api_key", "no API key")
        assert (await service.http.post(PATH, json={"input": DATA_URI}, headers=bearer)).status_code == 200
    async with serve() as service:
        assert (await service.http.post(PATH, json={"input": DATA_URI}, headers=bearer)).status_code == 200


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=bodies(
        "model", "input", "messages", "encoding_format", "dimensions", names=("image", "image_url", "url", "content")
    )
)
async def test_no_json_makes_the_service_fail(serve: Serve, sent: list[dict[str, Any]]) -> None:
    async with serve() as service:
        for body in sent:
            expect_no_failure(await service.http.post(PATH, json=body), body)


@pytest.mark.parametrize("content", NO_OBJECTS)
async def test_what_is_no_json_object_is_refused(serve: Serve, content: bytes) -> None:
    async with serve() as service:
        expect_error(await service.http.post(PATH, content=content), 400, "bad_request")
