"""/v1/models: what KServe's, TensorFlow Serving's and OpenAI's clients each look for, in one answer."""

from pathlib import Path

import numpy as np
import pytest

from tests.app.color_bundle import color_spec, write_bundle
from tests.app.dialects.wire import expect_error
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.in_process import Serve


@pytest.mark.parametrize("dialects", ["kserve", "all"])
async def test_the_list_is_kserves_and_openais(serve: Serve, bundle: Path, dialects: str) -> None:
    async with serve(dialects=dialects) as service:
        answer = await service.http.get("/v1/models")
    entry = {
        "id": bundle.name,
        "object": "model",
        "created": int((bundle / "fp32.onnx").stat().st_mtime),
        "owned_by": "mixer-serve",
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"object": "list", "data": [entry], "models": [bundle.name]}


@pytest.mark.parametrize("path", ["/v1/models/colours", "/v1/models/colours/versions/7"])
async def test_a_model_is_told_in_the_words_of_all_three(serve: Serve, path: str) -> None:
    async with serve() as service:
        told = (await service.http.get(path)).json()
    assert {name: told[name] for name in ("name", "ready")} == {"name": "colours", "ready": True}  # KServe
    assert (told["id"], told["object"], told["owned_by"]) == ("colours", "model", "mixer-serve")  # OpenAI
    assert isinstance(told["created"], int)
    assert told["model_version_status"] == [  # TensorFlow Serving
        {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/models/flowers", "model is 'flowers'; this service has colours"),
        ("/v1/models/colours/versions/8", " has 7."),
        ("/v1/models/", "is not served here"),
    ],
)
async def test_what_is_not_served_gets_404_with_a_text(serve: Serve, path: str, words: str) -> None:
    async with serve() as service:
        expect_error(await service.http.get(path), 404, words)


async def test_one_that_answers_wrongly_is_not_ready(serve: Serve) -> None:
    spec = color_spec()
    drifting = FakeSession(spec, lambda patches: means_of_colors(patches) + np.float32(1))
    async with serve(engine_of(drifting, spec)) as service:
        expect_error(await service.http.get("/v1/models/colours"), 503, ": The canary picture's logits are off by 1")
        assert (await service.http.get("/v1/models")).status_code == 200


async def test_every_model_is_listed_and_found_by_its_own_name(serve: Serve, tmp_path: Path) -> None:
    for folder, name in (("a", "apples"), ("b", "pears")):
        write_bundle(tmp_path / folder, color_spec(name=name))
    async with serve(None, bundle=tmp_path) as service:
        assert (await service.http.get("/v1/models")).json()["models"] == ["a", "b"]
        for name in ("a", "b", "apples", "pears"):
            told = (await service.http.get(f"/v1/models/{name}")).json()
            assert (told["name"], told["id"]) == (name, name)


async def test_a_key_is_asked_for_where_there_is_one(serve: Serve) -> None:
    async with serve(api_keys="a-key-of-sixteen-characters") as service:
        for path in ("/v1/models", "/v1/models/colours"):
            expect_error(await service.http.get(path), 401, "no API key")
