"""Inference over REST: every way to send pictures and to get outputs, and errors that clients can show."""

import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.dialects.oip.tensors import joined
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.dialects.wire import BLUE_PNG, GREEN_PNG, RED_PNG, b64, expect_error, values
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.in_process import Serve

INFER = "/v2/models/colours/infer"
PICTURES = [RED_PNG, GREEN_PNG, BLUE_PNG]
LABELS = ["red", "green", "blue"]
_TYPES = {"FP32": "<f4", "BOOL": "?"}


def in_json(pictures: list[bytes], **more: Any) -> dict[str, Any]:
    data = [b64(one) for one in pictures]
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "data": data}], **more}


def in_binary(asked: dict[str, Any], tail: bytes) -> dict[str, Any]:
    """A request with this JSON before its tensors."""
    head = json.dumps(asked).encode()
    return {"content": head + tail, "headers": {"Inference-Header-Content-Length": str(len(head))}}


def of_files(pictures: list[bytes], **more: Any) -> dict[str, Any]:
    tail = joined(pictures)
    entry = {
        "name": "image", "datatype": "BYTES", "shape": [len(pictures), 1],
        "parameters": {"binary_data_size": len(tail)},
    }  # fmt: skip
    return in_binary({"inputs": [entry], **more}, tail)


def outputs_of(answer: httpx.Response) -> dict[str, Any]:
    """The outputs by name, as arrays, read as a client does."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    head, at = json.loads(answer.content[:length]), length
    assert head["model_name"] == "colours"
    assert head["model_version"] == "7"
    assert head["parameters"] == {"model": "colours", "precision": "fp32"}
    found = {}
    for output in head["outputs"]:
        if "data" in output:
            content: Any = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            raw, at = answer.content[at : at + size], at + size
            content = np.frombuffer(raw, _TYPES[output["datatype"]]) if output["datatype"] in _TYPES else elements(raw)
        found[output["name"]] = np.array(content).reshape(output["shape"])
    assert at == len(answer.content)
    return found


def elements(raw: bytes) -> list[str]:
    found = []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        found.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return found


async def test_ten_pictures_in_one_request_each_get_their_own_label(serve: Serve) -> None:
    pictures, labels = (PICTURES * 4)[:10], (LABELS * 4)[:10]
    wish = [{"name": "probabilities", "parameters": {"classification": 1}}]
    async with serve() as service:
        for request in ({"json": in_json(pictures, outputs=wish)}, of_files(pictures, outputs=wish)):
            (told,) = outputs_of(await service.http.post(INFER, **request)).values()
            assert told.shape == (10, 1)
            assert [one.split(":", 2)[2] for (one,) in told.tolist()] == labels
            assert [int(one.split(":", 2)[1]) for (one,) in told.tolist()] == [LABELS.index(one) for one in labels]


async def test_outputs_in_json_and_in_binary_are_the_same_numbers(serve: Serve) -> None:
    names = ["logits", "probabilities", "embedding"]
    async with serve() as service:
        told = [
            outputs_of(await service.http.post(INFER, **request))
            for request in (
                {"json": in_json(PICTURES, outputs=[{"name": name} for name in names])},
                of_files(PICTURES, outputs=[{"name": name, "parameters": {"binary_data": True}} for name in names]),
                of_files(
                    PICTURES, parameters={"binary_data_output": True},
                    outputs=[
                        {"name": "logits", "parameters": {"binary_data": False}},
                        *({"name": name} for name in names[1:]),
                    ],
                ),
            )
        ]  # fmt: skip
    for other in told:
        assert list(other) == names
        assert {name: one.shape for name, one in other.items()} == {
            "logits": (3, 3), "probabilities": (3, 3), "embedding": (3, 48),
        }  # fmt: skip
        for name in names:
            np.testing.assert_array_equal(other[name].astype(np.float32), told[0][name].astype(np.float32))


async def test_a_bare_picture_is_the_whole_body(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(
            INFER, content=GREEN_PNG, headers={"Inference-Header-Content-Length": "0", "content-type": "text/odd"}
        )
        own = (await service.http.post("/classify?top_k=3", content=GREEN_PNG)).json()["predictions"]
    assert answer.headers["content-type"] == "application/octet-stream"
    (probabilities,) = outputs_of(answer)["probabilities"]
    assert probabilities.tolist() == pytest.approx(
        [next(o["probability"] for o in own if o["label"] == n) for n in LABELS]
    )


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
async def test_raw_pixels_are_answered_like_the_picture(serve: Serve, layout: str, datatype: str) -> None:
    pixels = np.stack([np.full((16, 16, 3), color, np.uint8) for color in (RED, GREEN, BLUE)])
    laid = (pixels if layout == "NHWC" else pixels.transpose(0, 3, 1, 2)).astype("u1" if datatype == "UINT8" else "<f4")
    entry = {"name": "image", "datatype": datatype, "shape": laid.shape}  # the size of the only tensor need not be said
    async with serve() as service:
        found = outputs_of(await service.http.post(INFER, **in_binary({"inputs": [entry]}, laid.tobytes())))
        files = [image(color, size=(16, 16)) for color in (RED, GREEN, BLUE)]
        expected = outputs_of(await service.http.post(INFER, json=in_json(files)))
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], rtol=1e-6)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_requests_and_answers_may_be_compressed(serve: Serve, coding: str) -> None:
    request = of_files(PICTURES)
    compress = gzip.compress if coding == "gzip" else zlib.compress
    headers = {**request["headers"], "Content-Encoding": coding, "Accept-Encoding": coding}
    async with serve() as service:
        answer = await service.http.post(INFER, content=compress(request["content"]), headers=headers)
        plain = await service.http.post(
            INFER,
            **request,
        )
        both = await service.http.post(
            INFER, **{**request, "headers": {**request["headers"], "Accept-Encoding": "gzip, br"}}
        )
    assert answer.headers["content-encoding"] == coding  # httpx has undone it
    assert answer.content == plain.content == both.content
    assert "content-encoding" not in both.headers


async def test_a_compressed_body_may_come_in_chunks_of_any_size(serve: Serve) -> None:
    request = of_files(PICTURES)
    content = gzip.compress(request["content"])

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    async with serve() as service:
        headers = {**request["headers"], "Content-Encoding": "gzip"}
        chunked = await service.http.post(INFER, content=chunks(), headers=headers)
        plain = await service.http.post(INFER, **request)
    assert chunked.request.headers["transfer-encoding"] == "chunked"
    assert outputs_of(chunked)["probabilities"].tolist() == outputs_of(plain)["probabilities"].tolist()


async def test_names_may_be_percent_encoded_and_come_back_as_they_are(serve: Serve) -> None:
    async with serve() as service:
        for name in ("colour%73", "%63olours"):
            assert (await service.http.post(f"/v2/models/{name}/infer", json=in_json([RED_PNG]))).status_code == 200
            assert (await service.http.get(f"/v2/models/{name}")).json()["name"] == "colours"
        for path in ("/v2/models/a%20b%3A%C3%BC", "/v2/models/a%20b%3A%C3%BC/ready"):
            expect_error(await service.http.get(path), 404, "a b:\N{LATIN SMALL LETTER U WITH DIAERESIS}")
        answer = await service.http.post("/v2/models/a%20b/infer", json=in_json([RED_PNG]))
        expect_error(answer, 404, "'a b'", "colours")


async def test_models_are_not_loaded_from_here(serve: Serve) -> None:
    async with serve() as service:
        for verb in ("load", "unload"):
            answer = await service.http.post(f"/v2/repository/models/colours/{verb}", json={})
            expect_error(answer, 404, f"/v2/repository/models/colours/{verb} is not served here")


async def test_a_compressed_body_is_bounded_by_what_it_stands_for(serve: Serve) -> None:
    async with serve(max_request_bytes=20_000, max_image_bytes=10_000) as service:
        bomb = gzip.compress(b" " * 50_000_000)
        expect_error(await service.http.post(INFER, content=bomb, headers={"Content-Encoding": "gzip"}), 413, "20000")
        for broken in (bomb[:-9], b"no gzip", bomb + b"more"):
            answer = await service.http.post(INFER, content=broken, headers={"Content-Encoding": "gzip"})
            assert answer.status_code in (400, 413), answer.text
        answer = await service.http.post(INFER, content=b"", headers={"Content-Encoding": "br"})
        expect_error(answer, 415, "gzip, deflate or none")


async def test_what_follows_the_end_of_a_compressed_body_is_refused_as_soon_as_it_comes(serve: Serve) -> None:
    pieces = iter([gzip.compress(b"{}"), *[bytes(10_000)] * 100])

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async with serve() as service:
        answer = await service.http.post(INFER, content=body(), headers={"Content-Encoding": "gzip"})
    expect_error(answer, 400, "does not end where its gzip data do")
    assert len(list(pieces)) > 90


@pytest.mark.parametrize("changes", [{"id": "7" * 100_000}, {"parameters": {"timeout": "7" * 100_000 + "x"}}])
async def test_an_answer_repeats_little_of_what_a_request_says(serve: Serve, changes: dict[str, Any]) -> None:
    async with serve() as service:
        answer = await service.http.post(INFER, json=in_json([RED_PNG], **changes))
    expect_error(answer, 400, "expected")
    assert len(answer.content) < 1000


async def test_id_and_unknown_words_and_microseconds(serve: Serve) -> None:
    more = {"id": "7 \N{SNOWMAN}", "model_name": "x", "parameters": {"priority": 3, "timeout": 60_000_000, "mine": [1]}}
    async with serve() as service:
        assert (await service.http.post(INFER, json=in_json([RED_PNG], **more))).json()["id"] == more["id"]
        assert "id" not in (await service.http.post(INFER, json=in_json([RED_PNG], id=""))).json()
        late = await service.http.post(INFER, json=in_json([RED_PNG], parameters={"timeout": 1}))
        assert late.status_code in (429, 504)
        assert late.json()["error"]


def changed(**more: Any) -> dict[str, Any]:
    """A request for one picture, with other members of its input."""
    asked = in_json([RED_PNG])
    asked["inputs"][0] |= more
    return {"json": asked}


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"json": in_json([RED_PNG, GREEN_PNG, b"no picture", BLUE_PNG])}, 400, "Picture 2: "),
        ({"json": {}}, 400, "inputs is null; expected a list."),
        ({"json": {"inputs": []}}, 400, "The inputs are none; expected one, 'image'."),
        ({"json": []}, 400, "expected a JSON object"),
        ({"content": b"{"}, 400, "no JSON"),
        (changed(name="picture"), 400, "The inputs are 'picture'"),
        (changed(datatype="FP16"), 400, "'FP16'"),
        (changed(shape=[2]), 400, "another number"),
        (changed(shape=[2**60 + 2, 16]), 400, "another number"),
        (changed(shape=[-1]), 400, "expected up to 8 whole numbers"),
        (changed(shape=[1.5]), 400, "expected whole numbers"),
        (changed(shape=None), 400, "inputs[0].shape is null"),
        (changed(data=b64(RED_PNG)), 400, "inputs[0].data is text; expected a list."),
        (changed(data=["http://elsewhere/x.png"]), 400, "not fetched"),
        (changed(parameters={"binary_data_size": 7}), 400, "0 bytes of the body are left"),
        (changed(parameters={"binary_data_size": True}), 400, "binary_data_size is True"),
        (changed(parameters=[]), 400, "inputs[0].parameters is a list"),
        ({"json": in_json([RED_PNG], outputs=[{"name": "scores"}])}, 400, "'scores' is asked for; expected some of"),
        ({"json": in_json([RED_PNG], outputs=[{"name": "logits"}] * 2)}, 400, "The 2 outputs name one twice"),
        ({"json": in_json([RED_PNG], outputs=[{"name": "logits"}] * 100_000)}, 400, "outputs has 100000 entries"),
        ({"json": {"inputs": [{}] * 100_000}}, 400, "inputs has 100000 entries"),
        ({"json": in_json([RED_PNG], outputs=[{}])}, 400, "outputs[0].name is null"),
        (
            {"json": in_json([RED_PNG], outputs=[{"name": "logits", "parameters": {"classification": -1}}])},
            400, "classification is -1",
        ),
        (
            {"json": in_json([RED_PNG], outputs=[{"name": "embedding", "parameters": {"classification": 1}}])},
            400, "has no labels",
        ),
        ({"json": in_json([RED_PNG], parameters={"timeout": "soon"})}, 400, "timeout is soon"),
        ({"json": in_json([RED_PNG], id=7)}, 400, "id is a number"),
        ({"json": in_json([RED_PNG] * 65)}, 413, "65 pictures; expected at most 64"),
        ({"json": in_json([])}, 400, "no picture"),
        ({"content": b"{}", "headers": {"Inference-Header-Content-Length": "3"}}, 400, "expected 0 to 2"),
        ({"content": b"{}", "headers": {"Inference-Header-Content-Length": "-1"}}, 400, "expected 0 to 2"),
        ({"content": b"{}", "headers": {"Inference-Header-Content-Length": "9" * 5000}}, 400, "expected 0 to 2"),
        (in_binary(in_json([RED_PNG]), b"more"), 400, "4 bytes behind its last tensor"),
        ({"content": b"", "headers": {"Inference-Header-Content-Length": "0"}}, 400, "0 bytes"),
    ],
)  # fmt: skip
async def test_errors_are_told_in_the_words_that_clients_show(
    serve: Serve, request_: dict[str, Any], status: int, words: str
) -> None:
    async with serve() as service:
        expect_error(await service.http.post(INFER, **request_), status, words)


async def test_names_versions_and_keys(serve: Serve) -> None:
    key = "a-key-of-sixteen-characters"
    async with serve(api_keys=key) as service:
        headers = {"authorization": f"Bearer {key}"}
        expect_error(await service.http.post(INFER, json=in_json([RED_PNG])), 401)
        for path in ("/v2/models/colours/versions/7/infer", INFER):
            assert (await service.http.post(path, json=in_json([RED_PNG]), headers=headers)).status_code == 200
        answer = await service.http.post(
            "/v2/models/colours/versions/8/infer", json=in_json([RED_PNG]), headers=headers
        )
        expect_error(answer, 404, " has 7.")
        expect_error(await service.http.get("/v2/models/colours"), 401)
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert (await service.http.get(path)).status_code == 200
        expect_error(await service.http.get("/v2/nothing", headers=headers), 404, "/v2/nothing")


async def test_whether_each_picture_is_uncertain_is_an_output_on_request(serve: Serve) -> None:
    grey = image((100, 100, 100))
    spec = color_spec(canary=None, energy_threshold=8.0)
    session = FakeSession(spec, means_of_colors)
    asked = [{"name": "uncertain"}, {"name": "probabilities", "parameters": {"classification": 1}}]
    async with serve(engine=engine_of(session, spec)) as service:
        for request in (
            {"json": in_json([RED_PNG, grey, BLUE_PNG], outputs=asked)},
            of_files([RED_PNG, grey, BLUE_PNG], outputs=asked, parameters={"binary_data_output": True}),
        ):
            told = outputs_of(await service.http.post(INFER, **request))
            assert list(told) == ["uncertain", "probabilities"]
            assert told["uncertain"].dtype == np.bool_
            assert told["uncertain"].tolist() == [[False], [True], [False]]
        metadata = (await service.http.get("/v2/models/colours")).json()
        wish = {"name": "uncertain", "parameters": {"classification": 1}}
        expect_error(await service.http.post(INFER, json=in_json([grey], outputs=[wish])), 400, "has no labels")
    assert metadata["properties"]["outputs_on_request"] == ["logits", "uncertain"]


async def test_a_model_without_a_threshold_says_so(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(INFER, json=in_json([RED_PNG], outputs=[{"name": "uncertain"}]))
    expect_error(answer, 400, "without an energy threshold")


async def test_a_graph_without_an_embedding_says_so(serve: Serve) -> None:
    spec = color_spec()
    async with serve(engine=engine_of(FakeSession(spec, means_of_colors), spec)) as service:
        answer = await service.http.post(INFER, json=in_json([RED_PNG], outputs=[{"name": "embedding"}]))
    expect_error(answer, 404, "embedding")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 99), values()), min_size=6, max_size=6))
async def test_no_value_anywhere_makes_the_service_fail(serve: Serve, changes: list[tuple[int, Any]]) -> None:
    async with serve() as service:
        for place, value in changes:
            asked = in_json([RED_PNG], outputs=[{"name": "logits", "parameters": {}}], parameters={}, id="")
            places: list[tuple[Any, Any]] = [(asked, name) for name in asked]
            places += [(asked["inputs"][0], name) for name in asked["inputs"][0]]
            places += [(asked["inputs"], 0), (asked["outputs"], 0), (asked["outputs"][0], "parameters")]
            places += [(asked["outputs"][0]["parameters"], "classification")]
            places += [(asked["parameters"], "timeout"), (asked["parameters"], "binary_data_output")]
            where, name = places[place % len(places)]
            where[name] = value
            answer = await service.http.post(INFER, json=asked)
            assert answer.status_code in (200, 400, 413, 422, 429, 504), (asked, answer.text)
