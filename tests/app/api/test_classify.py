"""Every endpoint, and every error that it can answer with. After each error the service still answers."""

import asyncio
import json
import math
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.decoding.decoder import FORMATS
from app.engine.engine import EngineOptions, open_engine
from model.spec import METADATA_KEY, PRECISION_KEY, ModelSpec, Source
from tests.app.asgi import AsgiCall
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image, write_bundle
from tests.app.fakes import FakeSession, GatedSession, engine_of, means_of_colors
from tests.app.in_process import Serve, Service
from tests.app.problem_answers import expect_problem, expect_problem_body

SPEC = color_spec(canary=None)
KEY = "a-key-of-sixteen-characters"
MODEL = {"name": "colours", "version": "7", "precision": "fp32"}


async def expect_service(service: Service, headers: dict[str, str] | None = None) -> None:
    """The service still answers."""
    answer = await service.http.post("/classify?top_k=1", content=image(GREEN), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["label"] == "green"


def files_of(*payloads: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{index}.png", payload)) for index, payload in enumerate(payloads)]


@pytest.mark.parametrize("path", ["/classify", "/classify\n", "/classify/batch\n"])
async def test_whoever_takes_the_path_for_it_holds_no_permit_after_its_answer(path: str, serve: Serve) -> None:
    async with serve() as service:
        upload: Any = {"files": files_of(image(RED))} if "batch" in path else {"content": image(RED)}
        answer = await service.http.post(path.replace("\n", "%0A"), **upload)
        assert answer.status_code == 200
        assert service.metrics.inside == 0


@pytest.mark.parametrize("path", ["/classify", "/classify\n"])
async def test_whoever_takes_the_path_for_it_hears_of_a_client_that_goes(path: str, serve: Serve) -> None:
    async with serve() as service:
        call = AsgiCall(path, {"Content-Type": "image/png"})
        task = asyncio.create_task(call.go(service.app))
        await call.listened.wait()
        call.hang_up()
        await task
        assert service.metrics.inside == 0
        samples = service.metrics.samples()
        assert samples['mixer_requests_total{endpoint="/classify",status="499"}'] == 1
        assert samples['mixer_errors_total{code="client_gone",endpoint="/classify"}'] == 1


# --- POST /classify ---


async def test_classify_answers_with_the_model_and_the_labels_most_probable_first(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post("/classify", content=image((255, 0, 51)))
    total = math.exp(10) + math.exp(2) + 1
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "model": MODEL,
        "predictions": [
            {"label": "red", "index": 0, "probability": pytest.approx(math.exp(10) / total, rel=1e-5)},
            {"label": "blue", "index": 2, "probability": pytest.approx(math.exp(2) / total, rel=1e-5)},
            {"label": "green", "index": 1, "probability": pytest.approx(1 / total, rel=1e-5)},
        ],
    }


@pytest.mark.parametrize(("query", "count"), [("", 3), ("?top_k=1", 1), ("?top_k=2", 2), ("?top_k=3", 3)])
async def test_top_k_says_how_many_labels(query: str, count: int, serve: Serve) -> None:
    async with serve() as service:
        one = await service.http.post(f"/classify{query}", content=image(RED))
        assert len(one.json()["predictions"]) == count
        many = await service.http.post(f"/classify/batch{query}", files=files_of(image(RED)))
        assert len(many.json()["results"][0]["predictions"]) == count


@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
@pytest.mark.parametrize(
    ("top_k", "words"),
    [
        ("0", "top_k is 0; expected 1 to 3, the number of classes."),
        ("-1", "top_k is -1; expected 1 to 3, the number of classes."),
        ("4", "top_k is 4; expected 1 to 3, the number of classes."),
        ("9" * 30, "; expected 1 to 3, the number of classes."),
        ("all", "top_k is 'all': Input should be a valid integer"),
        ("2.5", "top_k is '2.5': Input should be a valid integer"),
    ],
)
async def test_an_impossible_top_k(path: str, top_k: str, words: str, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(f"{path}?top_k={top_k}", files=files_of(image(RED)))
        expect_problem(answer, 422, "bad_parameter", words)
        await expect_service(service)


@pytest.mark.parametrize(
    ("payload", "status", "code", "words"),
    [
        (b"Hello, world", 400, "bad_picture", "starts with 48 65 6c 6c 6f 2c 20 77 and is no picture; expected JPEG"),
        (image(RED, size=(64, 64))[:-40], 400, "bad_picture", "The picture cannot be decoded: "),
        (b"%PDF-1.7", 415, "unsupported_format", "The file is PDF; expected JPEG, PNG, WebP, GIF, BMP or TIFF."),
        (
            image(RED, size=(101, 100)),
            413,
            "too_many_pixels",
            "declares 101 x 100 pixels; expected at most 10000 in all.",
        ),
        (bytes(5001), 413, "too_many_bytes", "5001 bytes; expected at most 5000."),
    ],
)
async def test_a_picture_that_is_none(payload: bytes, status: int, code: str, words: str, serve: Serve) -> None:
    async with serve(max_image_bytes=5000, max_image_pixels=10_000) as service:
        for options in ({"content": payload}, {"files": files_of(payload)}):
            answer = await service.http.post("/classify", **options)  # type: ignore[arg-type]
            expect_problem(answer, status, code, words)
            await expect_service(service)


async def test_a_full_queue_gets_429_at_once(serve: Serve) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), queue_capacity=2, max_images_per_request=2, max_batch_size=1) as service:
        inside = [asyncio.create_task(service.http.post("/classify", content=image(RED))) for _ in range(2)]
        await session.entered.wait()
        await service.metrics.until(lambda: service.metrics.waiting == 1)
        words = "2 of 2 places in the queue are taken; expected room for 1. Try again in 1 s."
        for path in ("/classify", "/classify/batch"):
            answer = await service.http.post(path, files=files_of(image(BLUE)))
            expect_problem(answer, 429, "queue_full", words)
            assert answer.headers["retry-after"] == "1"
        session.open_gate()
        assert [(await answer).status_code for answer in inside] == [200, 200]
        await expect_service(service)


async def test_a_picture_that_takes_too_long_gets_504(serve: Serve) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), request_timeout_s=0.3) as service:
        answer = await service.http.post("/classify", content=image(RED))
        expect_problem(answer, 504, "deadline_passed", "was not classified before its deadline")
        assert service.metrics.given_up == [("infer", "deadline")]
        session.open_gate()
    async with serve(engine_of(FakeSession(SPEC, means_of_colors), SPEC)) as service:
        await expect_service(service)


async def test_an_engine_that_fails_gets_500_for_its_picture_only(serve: Serve) -> None:
    def answer(patches: Any) -> Any:
        if (patches.reshape(len(patches), -1, 3)[:, 0] == BLUE).all(axis=-1).any():
            raise RuntimeError("Traceback: secret of the engine")
        return means_of_colors(patches)

    async with serve(engine_of(FakeSession(SPEC, answer), SPEC)) as service:
        blue = await service.http.post("/classify", content=image(BLUE))
        detail = expect_problem(blue, 500, "inference_failed", "The engine failed on this picture")
        assert "secret" not in detail
        many = await service.http.post("/classify/batch", files=files_of(image(RED), image(BLUE), image(GREEN)))
        entries = many.json()["results"]
        assert [entry.get("error", {}).get("code") for entry in entries] == [None, "inference_failed", None]
        await expect_service(service)


async def test_an_error_nobody_expected_gets_500_and_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    unnamed = SPEC.model_copy(update={"labels": ("red", "green")})  # which no spec from a file can be

    async with serve(engine_of(FakeSession(unnamed, means_of_colors), unnamed)) as service:
        surprised = await service.http.post("/classify", content=image(RED), headers={"x-request-id": "r-1"})
        expect_problem(surprised, 500, "internal_error", "The service failed on this request; its log says why.")
        assert surprised.headers["x-request-id"] == "r-1"
        assert "server-timing" in surprised.headers
        failed = next(record for record in caplog.records if record.getMessage() == "request failed")
        assert failed.exc_info is not None
        assert vars(failed)["request_id"] == "r-1"
        await expect_service(service)


# --- POST /classify/batch ---


async def test_a_batch_is_answered_in_its_order_and_a_bad_picture_spoils_only_its_own_entry(serve: Serve) -> None:
    payloads = [image(BLUE), b"no picture", image(RED, kind="JPEG"), b"", b"%PDF", image(GREEN, size=(9, 9))]
    async with serve() as service:
        answer = await service.http.post("/classify/batch?top_k=1", files=files_of(*payloads))
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == MODEL
    results = body["results"]
    assert [entry["filename"] for entry in results] == [f"{index}.png" for index in range(6)]
    outcomes = [entry.get("error", {}).get("code") or entry["predictions"][0]["label"] for entry in results]
    assert outcomes == ["blue", "bad_picture", "red", "bad_picture", "unsupported_format", "green"]
    assert results[3] == {
        "filename": "3.png",
        "error": {"code": "bad_picture", "detail": "The picture has 0 bytes; expected an image file."},
    }


async def test_a_picture_of_a_batch_has_its_own_limit(serve: Serve) -> None:
    async with serve(max_image_bytes=1000) as service:
        answer = await service.http.post("/classify/batch", files=files_of(bytes(1001), image(RED)))
        first, second = answer.json()["results"]
        assert first["error"] == {
            "code": "too_many_bytes", "detail": "The picture has 1001 bytes; expected at most 1000.",
        }  # fmt: skip
        assert second["predictions"][0]["label"] == "red"


async def test_a_picture_too_large_for_its_batch_is_an_outcome_too(serve: Serve) -> None:
    async with serve(max_image_bytes=1000) as service:
        await service.http.post("/classify/batch", files=files_of(bytes(1001)))
        assert service.metrics.samples()['mixer_images_total{outcome="too_many_bytes"}'] == 1


async def test_too_many_pictures(serve: Serve) -> None:
    async with serve(max_images_per_request=2) as service:
        answer = await service.http.post("/classify/batch", files=files_of(*[image(RED)] * 3))
        expect_problem(answer, 413, "too_many_bytes", "The form has more than 2 files, the most expected here.")
        answer = await service.http.post("/classify/batch", files=files_of(*[image(RED)] * 2))
        assert len(answer.json()["results"]) == 2


async def test_too_large_a_batch(serve: Serve) -> None:
    async with serve(max_request_bytes=2000) as service:
        answer = await service.http.post("/classify/batch", files=files_of(bytes(1000), bytes(1000)))
        expect_problem(answer, 413, "too_many_bytes", "expected at most 2000.")
        await expect_service(service)


async def test_filenames_come_back_as_they_were(serve: Serve) -> None:
    names = ["bild-ä.png", "a b.png", "", "../../x.png"]
    parts = [
        f'--XX\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n\r\n'.encode() for name in names
    ]
    body = b"".join(parts) + b"--XX--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=XX"}
    async with serve() as service:
        answer = await service.http.post("/classify/batch", content=body, headers=headers)
        assert [entry["filename"] for entry in answer.json()["results"]] == names


# --- clients that hang up ---


async def _queued_behind_another(service: Service, session: GatedSession, path: str, body: bytes, count: int) -> Any:
    """A request in the engine, and one of `count` pictures that waits for its instance."""
    ahead = asyncio.create_task(service.http.post("/classify", content=image(RED)))
    await session.entered.wait()
    headers = {"content-type": "multipart/form-data; boundary=XX" if path.endswith("batch") else "image/png"}
    call = AsgiCall(path, headers)
    call.send_body(body)
    working = asyncio.create_task(call.go(service.app))
    await service.metrics.until(lambda: service.metrics.waiting == count)
    return ahead, call, working


def _form_of(*payloads: bytes) -> bytes:
    head = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return b"".join(head + payload + b"\r\n" for payload in payloads) + b"--XX--\r\n"


@pytest.mark.parametrize(
    ("path", "body", "count"),
    [("/classify", image(BLUE), 1), ("/classify/batch", _form_of(image(BLUE), image(BLUE)), 2)],
)
async def test_a_client_that_hangs_up_in_the_queue_costs_no_run(
    path: str, body: bytes, count: int, serve: Serve
) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC)) as service:
        ahead, call, working = await _queued_behind_another(service, session, path, body, count)
        call.hang_up()
        await working
        assert call.sent == []
        session.open_gate()
        assert (await ahead).status_code == 200
        await expect_service(service)
        seen = [tuple(patches.reshape(-1, 3)[0]) for batch in session.batches for patches in batch]
        assert seen == [RED, GREEN]
        samples = service.metrics.samples()
        assert samples['mixer_dropped_total{reason="client_gone",stage="queue"}'] == count
        assert samples['mixer_images_total{outcome="client_gone"}'] == count
        assert samples[f'mixer_requests_total{{endpoint="{path}",status="499"}}'] == 1
        assert samples["mixer_in_flight"] == 0


async def test_a_client_that_hangs_up_in_the_queue_is_counted_in_that_stage_only(serve: Serve) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC)) as service:
        ahead, call, working = await _queued_behind_another(service, session, "/classify", image(BLUE), 1)
        call.hang_up()
        await working
        session.open_gate()
        await ahead
        assert service.metrics.given_up == [("queue", "client_gone")]


# --- keys ---


@pytest.mark.parametrize(("method", "path"), [("POST", "/classify"), ("POST", "/classify/batch"), ("GET", "/model")])
async def test_with_keys_configured_nobody_enters_without(method: str, path: str, serve: Serve) -> None:
    async with serve(api_keys=KEY) as service:
        for headers, words in (({}, "has no API key"), ({"x-api-key": "wrong"}, "is not known to this service")):
            answer = await service.http.request(method, path, headers=headers)
            expect_problem(answer, 401, "bad_api_key", words)
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
            assert (await service.http.request(method, path, headers=headers)).status_code != 401
            await expect_service(service, headers)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"])
async def test_probes_and_documentation_need_no_key(path: str, serve: Serve) -> None:
    async with serve(api_keys=KEY) as service:
        assert (await service.http.get(path)).status_code == 200


async def test_without_its_key_a_body_is_not_read(serve: Serve) -> None:
    async with serve(api_keys=KEY) as service:
        call = AsgiCall("/classify", {"content-type": "image/png"})
        await call.go(service.app)  # no body ever arrives
        assert call.status == 401


# --- GET ---


async def test_the_model_its_provider_and_the_limits(serve: Serve) -> None:
    async with serve(queue_capacity=100, max_batch_size=4, request_timeout_s=7) as service:
        answer = await service.http.get("/model")
    assert answer.status_code == 200
    spec = json.loads(color_spec().model_dump_json())
    spec["source"]["licence"] = spec["source"]["license"]  # by its old name, too
    del spec["conformal"], spec["reference"]
    assert answer.json() == {
        "card": None,
        "spec": spec,
        "sets": None,
        "provider": "cpu",
        "precision": "fp32",
        "embedding_dim": 48,
        "precision_reason": "fp32 was asked for",
        "instances": 2,
        "lanes": 2,
        "fallback": None,
        "limits": {
            "max_picture_bytes": 20 << 20,
            "max_picture_pixels": 50_000_000,
            "max_pictures_per_request": 64,
            "max_request_bytes": 64 << 20,
            "request_timeout_s": 7,
            "max_batch_size": 4,
            "queue_capacity": 100,
            "formats": list(FORMATS),
            "upload_memory_bytes": 128 << 20,
            "decode_memory_bytes": 350_000_000,
            "max_connections": 2048,
            "workers": 1,
        },
    }


async def test_a_model_without_embeddings_has_no_size_of_them(serve: Serve) -> None:
    async with serve(engine_of(FakeSession(SPEC, means_of_colors), SPEC), admin_port=1) as service:
        assert (await service.http.get("/model")).json()["embedding_dim"] is None


@pytest.mark.parametrize("names", [{"license": "MIT"}, {"licence": "MIT"}, {"license": "MIT", "licence": "MIT"}])
async def test_the_license_has_its_old_name_too(names: dict[str, str], tmp_path: Path, serve: Serve) -> None:
    spec = color_spec()
    stored = spec.model_dump_json(exclude={"source"})[:-1] + f',"source":{json.dumps({"origin": "here"} | names)}}}'
    write_bundle(tmp_path, spec, metadata={METADATA_KEY: stored, PRECISION_KEY: "fp32"})
    async with serve(open_engine(EngineOptions(tmp_path, provider="cpu")), bundle=tmp_path) as service:
        shown = (await service.http.get("/model")).json()["spec"]
    assert shown["source"] == {"origin": "here", "license": "MIT", "licence": "MIT"}
    assert ModelSpec.model_validate(shown).source == Source(origin="here", license="MIT")


async def test_live_says_nothing_of_the_model(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.get("/health/live")
        assert (answer.status_code, answer.json()) == (200, {"status": "live"})


async def test_ready_says_what_runs(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.get("/health/ready")
        runs = {"provider": "cpu", "precision": "fp32", "precision_reason": "fp32 was asked for", "fallback": None}
        assert (answer.status_code, answer.json()) == (200, {"status": "ready", **runs})


async def test_a_service_that_answers_wrongly_is_live_and_not_ready(serve: Serve) -> None:
    spec = color_spec()
    drifting = FakeSession(spec, lambda patches: means_of_colors(patches) + np.float32(1))
    async with serve(engine_of(drifting, spec)) as service:
        answer = await service.http.get("/health/ready")
        expect_problem(answer, 503, "not_ready", "logits are off by 1; expected at most 0.001.")
        assert (await service.http.get("/health/live")).status_code == 200


async def test_the_fallback_is_shown_wherever_the_engine_is(serve: Serve) -> None:
    engine = engine_of(FakeSession(SPEC, means_of_colors), SPEC)
    engine.fallback = "no GPU was found"
    async with serve(engine) as service:
        for path in ("/model", "/health/ready"):
            assert (await service.http.get(path)).json()["fallback"] == "no GPU was found"


@pytest.mark.parametrize("path", ["/nothing", "/classify/one", "/health", "/model/x"])
async def test_no_such_path(path: str, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.get(path)
        expect_problem(answer, 404, "not_found", "is not served here; GET /docs lists what is.")
        await expect_service(service)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/classify", "POST"),
        ("PUT", "/classify/batch", "POST"),
        ("POST", "/model", "GET"),
        ("DELETE", "/metrics", "GET"),
        ("POST", "/health/ready", "GET, HEAD"),
        ("GET", "/admin/reload", "POST"),
    ],
)
async def test_no_such_method(method: str, path: str, allowed: str, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.request(method, path)
        words = f"{method} {path} is not served here; expected {allowed.replace(', ', ' or ')}."
        expect_problem(answer, 405, "method_not_allowed", words)
        assert answer.headers["allow"] == allowed
        await expect_service(service)


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/classify/", "/classify"),
        ("POST", "//classify//batch", "/classify/batch"),
        ("GET", "/Classify", "/classify"),
        ("GET", "/health/live/", "/health/live"),
        ("POST", "/admin/reload/", "/admin/reload"),
    ],
)
async def test_a_path_that_is_almost_right_is_told_the_right_one(
    method: str, path: str, meant: str, serve: Serve
) -> None:
    async with serve() as service:
        answer = await service.http.request(method, f"http://service{path}")
        expect_problem(answer, 404, "not_found", f"{path} is not served here; expected {meant}, exactly.")
        assert "location" not in answer.headers
        await expect_service(service)


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready"])
async def test_head_answers_as_get_without_a_body(path: str, serve: Serve) -> None:
    async with serve() as service:
        got, head = await service.http.get(path), await service.http.head(path)
        assert head.status_code == got.status_code in (200, 307)
        assert head.content == b""
        for name in ("content-type", "content-length", "location"):
            assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "/classify?topk=3", "The query has 'topk'; expected top_k."),
        ("POST", "/classify/batch?modle=x", "The query has 'modle'; expected model."),
        ("GET", "/model?name=x", "The query has 'name'; expected model."),
    ],
)
async def test_no_such_parameter(method: str, path: str, words: str, serve: Serve) -> None:
    async with serve() as service:
        expect_problem(await service.http.request(method, path), 422, "bad_parameter", words)
        await expect_service(service)


# --- OpenAPI ---


async def test_the_openapi_document_names_every_endpoint_and_resolves(serve: Serve) -> None:
    async with serve(dialects="") as service:
        document = (await service.http.get("/openapi.json")).json()
    assert re.fullmatch(r"3\.[01]\.\d+", document["openapi"])
    assert document["info"]["title"] == "mixer-serve"
    operations = {(method, path) for path, item in document["paths"].items() for method in item}
    assert operations == {
        ("post", "/classify"),
        ("post", "/classify/batch"),
        ("post", "/classify/stream"),
        ("post", "/explain"),
        ("post", "/feedback"),
        ("get", "/model"),
        ("get", "/model/card"),
        ("get", "/models"),
        ("post", "/admin/reload"),
        ("get", "/health/live"),
        ("get", "/health/ready"),
        ("get", "/metrics"),
    }
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)
    for reference in _references(document):
        node: Any = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert isinstance(node, dict)


async def test_the_openapi_document_says_what_classify_takes_and_answers(serve: Serve) -> None:
    async with serve() as service:
        document = (await service.http.get("/openapi.json")).json()
    for path in ("/classify", "/classify/batch"):
        operation = document["paths"][path]["post"]
        assert {parameter["name"] for parameter in operation["parameters"]} >= {"top_k", "X-Request-Timeout-Ms"}
        assert "multipart/form-data" in operation["requestBody"]["content"]
        refused = {"400", "401", "404", "413", "415", "422", "429", "500", "503", "504"}
        assert set(operation["responses"]) == {"200"} | refused
        for status, answer in operation["responses"].items():
            expected = "application/json" if status == "200" else "application/problem+json"
            assert list(answer["content"]) == [expected]
    ready = document["paths"]["/health/ready"]["get"]["responses"]["503"]
    assert list(ready["content"]) == ["application/problem+json"]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _references(child)


# --- the end ---


@pytest.fixture
def sigterm_does_nothing() -> Iterator[None]:
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.usefixtures("sigterm_does_nothing")
async def test_from_sigterm_on_new_pictures_get_503_and_accepted_ones_their_answer(serve: Serve) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC)) as service:
        accepted = asyncio.create_task(service.http.post("/classify", content=image(RED)))
        await session.entered.wait()
        signal.raise_signal(signal.SIGTERM)
        turn = asyncio.Event()
        asyncio.get_running_loop().call_soon(turn.set)  # after what the signal has called for
        await turn.wait()
        expect_problem(await service.http.get("/health/ready"), 503, "not_ready", "The service is draining.")
        refused = await service.http.post("/classify", content=image(BLUE))
        expect_problem(refused, 503, "not_ready", "is draining; expected a request to another instance.")
        assert (await service.http.get("/health/live")).status_code == 200
        session.open_gate()
        assert (await accepted).json()["predictions"][0]["label"] == "red"


@pytest.mark.usefixtures("sigterm_does_nothing")
async def test_who_is_not_answered_when_the_drain_ends_gets_503(serve: Serve) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), drain_timeout_s=0.05) as service:
        call = AsgiCall("/classify", {"content-type": "image/png"})
        call.send_body(image(RED))
        working = asyncio.create_task(call.go(service.app))
        await session.entered.wait()
        signal.raise_signal(signal.SIGTERM)
        await working  # the run itself never ends
        expect_problem_body(call.body, 503, "not_ready", "The service shut down before an answer; expected")
    session.open_gate()


async def test_leaving_the_lifespan_drains_as_a_signal_does(serve: Serve) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), drain_timeout_s=0.05) as service:
        call = AsgiCall("/classify", {"content-type": "image/png"})
        call.send_body(image(RED))
        working = asyncio.create_task(call.go(service.app))
        await session.entered.wait()
    await working
    expect_problem_body(call.body, 503, "not_ready", "The service shut down before an answer")
    session.open_gate()


@pytest.mark.usefixtures("sigterm_does_nothing")
async def test_whoever_comes_while_the_service_drains_is_counted_once(serve: Serve) -> None:
    async with serve() as service:
        signal.raise_signal(signal.SIGTERM)
        for _ in range(10):  # turns of the event loop: by then all batchers are closed
            await asyncio.sleep(0)
        expect_problem(await service.http.get("/health/ready"), 503, "not_ready", "The service is draining.")
        call = AsgiCall("/classify", {"content-type": "image/png"})
        call.send_body(image(RED))
        assert call.ask(service.gate) is None
        await call.go(service.app)
        expect_problem_body(call.body, 503, "not_ready", "is draining; expected a request to another instance.")
        samples = service.metrics.samples()
    assert samples['mixer_rejected_total{reason="draining"}'] == 1
    assert 'mixer_images_total{outcome="not_ready"}' not in samples


async def test_a_service_can_be_started_from_the_shipped_layout(serve: Serve, bundle: Path) -> None:
    engine = open_engine(EngineOptions(bundle / "fp32.onnx", provider="cpu", instances=1))
    async with serve(engine, max_wait_ms=1, decode_threads=1) as service:
        await expect_service(service)
