"""Pictures that are kept behind their answers, in whatever protocol, and POST /feedback about them."""

import asyncio
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.collection.collection import MOST_WAITING
from app.engine.engine import Engine
from app.errors import BadSettings
from tests.app.api.test_openapi import expect_valid
from tests.app.color_bundle import BLUE, RED, color_spec, image
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.in_process import Serve
from tests.app.problem_answers import expect_problem

SPEC = color_spec(canary=None, energy_threshold=8.0)
GREY = (51, 51, 51)
KEY = "a-key-of-sixteen-characters"


def engine() -> Engine:
    return engine_of(FakeSession(SPEC, means_of_colors), SPEC)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """The answers that lie in a folder of kept pictures, by request id and position."""
    found = (path for path in folder.glob("*/*.json") if not path.name.endswith(".label.json"))
    return {path.stem: json.loads(path.read_text()) for path in sorted(found)}


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def counted(samples: dict[str, float], name: str) -> dict[str, float]:
    return {key.split('"')[-2]: value for key, value in samples.items() if key.startswith(f"{name}{{") and value}


async def ask(http: httpx.AsyncClient, color: Any = RED, request_id: str = "abc") -> httpx.Response:
    answer = await http.post("/classify", content=image(color), headers={"X-Request-ID": request_id})
    assert answer.status_code == 200, answer.text
    return answer


async def say(http: httpx.AsyncClient, request_id: str, label: str, **more: Any) -> httpx.Response:
    return await http.post("/feedback", json={"request_id": request_id, "label": label, **more})


async def test_a_kept_picture_has_its_bytes_and_its_whole_answer(serve: Serve, tmp_path: Path) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1) as service:
        answer = (
            await service.http.post("/classify?top_k=1", content=image(RED), headers={"X-Request-ID": "a"})
        ).json()
    record = records(tmp_path)["a-0"]
    (day,) = files(tmp_path, "*-*-*")
    assert (day / record["picture"]).read_bytes() == image(RED)
    assert record["model"] == answer["model"]
    assert record["predictions"][0] == answer["predictions"][0]
    assert [one["label"] for one in record["predictions"]] == ["red", "green", "blue"]
    assert (record["uncertain"], record["energy"]) == (False, answer["energy"])
    assert (record["chosen_by"], record["picture"]) == (["share"], "a-0.png")
    assert counted(service.metrics.samples(), "mixer_collected_total") == {"kept": 1}


async def test_rules_choose_by_the_answer_and_not_by_what_the_client_asks_for(serve: Serve, tmp_path: Path) -> None:
    rules = {"collect_below_probability": 0.6, "collect_classes": "blue, green", "collect_uncertain": True}
    async with serve(engine(), collect_dir=tmp_path, **rules) as service:
        await ask(service.http, RED, "red")
        await ask(service.http, BLUE, "blue")
        await ask(service.http, GREY, "grey")
        for threshold in (-100, 100):
            headers = {"X-Request-ID": f"client{threshold}"}
            await service.http.post(f"/classify?threshold={threshold}", content=image(RED), headers=headers)
    assert {name: record["chosen_by"] for name, record in records(tmp_path).items()} == {
        "blue-0": ["class"],
        "grey-0": ["below_probability", "uncertain"],
    }


async def test_pictures_of_a_batch_are_known_by_their_position(serve: Serve, tmp_path: Path) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1) as service:
        sent = [("file", ("a", image(RED))), ("file", ("b", b"hello")), ("file", ("c", image(BLUE)))]
        await service.http.post("/classify/batch", files=sent, headers={"X-Request-ID": "abc"})
        told = (await say(service.http, "abc", "red", index=2)).json()
        expect_problem(await say(service.http, "abc", "red", index=1), 404, "unknown_request", "abc-1")
    assert told == {"request_id": "abc", "index": 2, "label": "red", "predicted": "blue", "right": False}
    assert list(records(tmp_path)) == ["abc-0", "abc-2"]


async def test_tensors_of_other_protocols_are_kept_as_png(serve: Serve, tmp_path: Path) -> None:
    pixels = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    pixels[..., 0] = 255
    tensor = {"name": "image", "shape": [2, 8, 8, 3], "datatype": "UINT8", "data": pixels.ravel().tolist()}
    async with serve(engine(), collect_dir=tmp_path, collect_share=1) as service:
        answer = await service.http.post(
            "/v2/models/colours/infer", json={"inputs": [tensor]}, headers={"X-Request-ID": "abc"}
        )
        assert answer.status_code == 200, answer.text
    assert [record["picture"] for record in records(tmp_path).values()] == ["abc-0.png", "abc-1.png"]


async def test_without_a_folder_nothing_is_kept_and_feedback_says_what_turns_it_on(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with serve(engine()) as service:
        await ask(service.http)
        expect_problem(await say(service.http, "abc", "red"), 403, "forbidden", "MIXER_COLLECT_DIR")
    assert files(tmp_path, "*") == []


async def test_feedback_is_written_counted_and_answered_as_described(serve: Serve, tmp_path: Path) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1) as service:
        for request_id, label in (("a", "red"), ("b", "blue"), ("b", "green"), ("c", "violet")):
            if not records(tmp_path).get(f"{request_id}-0"):
                await ask(service.http, RED, request_id)
            said = await say(service.http, request_id, label)
            assert said.status_code == 200, said.text
        document = (await service.http.get("/openapi.json")).json()
    operation = document["paths"]["/feedback"]["post"]
    expect_valid(said.json(), operation["responses"]["200"]["content"]["application/json"]["schema"], document)
    described = operation["requestBody"]["content"]["application/json"]
    expect_valid(described["example"], described["schema"], document)
    labels = {path.name: json.loads(path.read_text())["label"] for path in files(tmp_path, "*/*.label.json")}
    assert labels == {"a-0.label.json": "red", "b-0.label.json": "green", "c-0.label.json": "violet"}
    samples = service.metrics.samples()
    assert counted(samples, "mixer_feedback_total") == {"right": 1, "wrong": 2}  # a second word counts no more
    assert samples['mixer_requests_total{endpoint="/feedback",status="200"}'] == 4


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"{", 400, "bad_request", "no JSON"),
        (b'{"request_id": "abc"}', 422, "bad_parameter", "label"),
        (b'{"request_id": "../etc", "label": "red"}', 422, "bad_parameter", "request_id is '../etc'"),
        (b'{"request_id": "abc", "label": " red"}', 422, "bad_parameter", "without blanks around it"),
        (b'{"request_id": "abc", "label": ""}', 422, "bad_parameter", "at least 1 character"),
        (b'{"request_id": "abc", "label": "a\\nb"}', 422, "bad_parameter", "printable"),
        (b'{"request_id": "abc", "label": "red", "index": -1}', 422, "bad_parameter", "index is '-1'"),
        (b'{"request_id": "abc", "label": "red", "who": 1}', 422, "bad_parameter", "who"),
        (b'{"request_id": "nobody", "label": "red"}', 404, "unknown_request", "nobody-0"),
        (b"x" * 5000, 413, "too_many_bytes", "5000"),
    ],
)
async def test_feedback_that_cannot_be_is_refused(
    serve: Serve, tmp_path: Path, body: bytes, status: int, code: str, words: str
) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1) as service:
        answer = await service.http.post("/feedback", content=body, headers={"Content-Type": "application/json"})
        expect_problem(answer, status, code, words)
        plain = await service.http.post("/feedback", content=body, headers={"Content-Type": "text/plain"})
        expect_problem(plain, 415, "unsupported_format", "application/json")  # as pages of other origins may send
    assert files(tmp_path, "*/*") == []


async def test_feedback_needs_a_key_where_answers_do(serve: Serve, tmp_path: Path) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1, api_keys=KEY) as service:
        expect_problem(await say(service.http, "abc", "red"), 401, "bad_api_key")


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """A folder in which nothing can be written for now, as on a disk that hangs."""
    with (folder / ".usage").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


async def test_a_disk_that_hangs_costs_pictures_and_no_answer(serve: Serve, tmp_path: Path) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1) as service:
        with locked_folder(tmp_path):
            for number in range(MOST_WAITING + 20):
                answer = await ask(service.http, BLUE, f"id{number}")
                assert answer.json()["predictions"][0]["label"] == "blue"
            expect_problem(await say(service.http, "id0", "red"), 429, "queue_full")
            assert counted(service.metrics.samples(), "mixer_collected_total") == {"dropped_full": 20}
            assert not records(tmp_path)
    assert len(records(tmp_path)) == MOST_WAITING


async def test_a_disk_that_refuses_costs_pictures_and_no_answer(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1) as service:
        await ask(service.http, RED, "a")
        assert (await say(service.http, "a", "red")).status_code == 200  # and the folder of this day is there
        (day,) = files(tmp_path, "*-*-*")
        await asyncio.to_thread(day.rename, tmp_path / "elsewhere")
        await asyncio.to_thread(day.write_bytes, b"")
        for request_id in ("b", "c"):
            assert (await ask(service.http, BLUE, request_id)).json()["predictions"][0]["label"] == "blue"
        expect_problem(await say(service.http, "b", "red"), 404, "unknown_request")
        outcomes = counted(service.metrics.samples(), "mixer_collected_total")
        assert (outcomes.pop("kept"), sum(outcomes.values())) == (1, 2)
        assert outcomes.keys() <= {"failed", "dropped_failing"}  # the second, where it comes within a second
    assert [line.levelname for line in caplog.records if line.name == "mixer.collection"] == ["ERROR"]


async def test_a_folder_that_is_full_keeps_no_more(serve: Serve, tmp_path: Path) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_share=1, collect_max_images=2) as service:
        for number in range(4):
            await ask(service.http, RED, f"id{number}")
        await say(service.http, "id0", "red")
        assert counted(service.metrics.samples(), "mixer_collected_total") == {"kept": 2, "dropped_limit": 2}


async def test_a_folder_that_cannot_be_one_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match=r"MIXER_COLLECT_DIR is .*file: File exists; expected a folder"):
        async with serve(engine(), collect_dir=tmp_path / "file", collect_share=1):
            pass


async def test_a_class_that_no_model_has_is_warned_of(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(engine(), collect_dir=tmp_path, collect_classes="red,geen"):
        pass
    (line,) = [record.getMessage() for record in caplog.records if "COLLECT_CLASSES" in record.getMessage()]
    assert line == "MIXER_COLLECT_CLASSES has 'geen', which no model has as a label; did you mean green?"
