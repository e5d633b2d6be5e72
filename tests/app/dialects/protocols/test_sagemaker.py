"""SageMaker's /invocations: a picture of any type, JSON with instances or inputs, and text/csv where it is wanted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.app.color_bundle import color_spec, write_bundle
from tests.app.dialects.wire import BLUE_PNG, RED_PNG, b64, expect_error
from tests.app.in_process import Serve

PATH = "/invocations"
RED_64, BLUE_64 = b64(RED_PNG), b64(BLUE_PNG)


@pytest.mark.parametrize(
    ("sent", "labels"),
    [
        ({"content": RED_PNG, "headers": {"Content-Type": "image/png"}}, ["red"]),
        ({"content": RED_PNG, "headers": {"Content-Type": "application/x-image"}}, ["red"]),
        ({"content": RED_PNG}, ["red"]),
        ({"json": {"instances": [{"b64": RED_64}, BLUE_64]}}, ["red", "blue"]),
        ({"json": {"inputs": RED_64}}, ["red"]),
        ({"json": {"inputs": [RED_64, {"b64": BLUE_64}], "parameters": {"top_k": 1}}}, ["red", "blue"]),
        ({"json": {"inputs": "%", "instances": [RED_64]}}, ["red"]),
    ],
)
async def test_what_comes_in_is_answered_with_predictions(
    serve: Serve, sent: Mapping[str, Any], labels: list[str]
) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, **sent)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert [one["label"] for one in answer.json()["predictions"]] == labels


@pytest.mark.parametrize(
    ("accept", "is_csv"),
    [
        ("text/csv", True),
        (" Text/CSV; charset=utf-8, */*", True),
        ("application/json, text/csv", False),
        ("*/*", False),
        ("", False),
    ],
)
async def test_csv_is_a_line_for_each_picture(serve: Serve, accept: str, is_csv: bool) -> None:
    async with serve() as service:
        sent = {"instances": [RED_64, BLUE_64]}
        answer = await service.http.post(PATH, json=sent, headers={"Accept": accept})
    if not is_csv:
        assert len(answer.json()["predictions"]) == 2
        return
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert [line.split(",")[0] for line in answer.text.splitlines()] == ["red", "blue"]
    assert all(0.9 < float(line.split(",")[1]) < 1 for line in answer.text.splitlines())


async def test_labels_with_commas_are_quoted(serve: Serve, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", color_spec(labels=('a, "b"', "green", "blue")))
    async with serve(None, bundle=folder, provider="cpu") as service:
        answer = await service.http.post(PATH, content=RED_PNG, headers={"Accept": "text/csv"})
    assert answer.text.startswith('"a, ""b""",0.9')


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"content": b"hello"}, 400, "no picture"),
        ({"content": b"", "headers": {"Content-Type": "application/json"}}, 400, "The body is no JSON"),
        ({"json": {}}, 422, "instances is null"),
        ({"json": {"inputs": None}}, 422, "inputs[0] is null"),
        ({"json": {"inputs": "https://x/a.png"}}, 400, "Addresses are not fetched"),
    ],
)
async def test_errors_have_a_text(serve: Serve, sent: Mapping[str, Any], status: int, words: str) -> None:
    async with serve() as service:
        expect_error(await service.http.post(PATH, **sent), status, words)


async def test_another_method_is_told_in_the_same_form(serve: Serve) -> None:
    async with serve() as service:
        expect_error(await service.http.get(PATH), 405, "expected POST")


async def test_custom_attributes_are_not_echoed(serve: Serve) -> None:
    name = "X-Amzn-SageMaker-Custom-Attributes"
    async with serve() as service:
        answer = await service.http.post(PATH, content=RED_PNG, headers={name: "a=1"})
    assert answer.status_code == 200
    assert name not in answer.headers
