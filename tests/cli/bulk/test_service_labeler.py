"""Pictures sent to a running service: the same outcomes as here, and patience where it is busy."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from cli.bulk import service_labeler
from cli.bulk.entries import Entry, LocalFile
from cli.bulk.labeler import Task
from cli.bulk.outcomes import Embedded, Failure, Labelled
from cli.bulk.service_labeler import ServiceFailed, ServiceLabeler, service
from tests.app.color_bundle import GREEN, RED, image
from tests.app.in_process import Serve
from tests.app.servers import Server, free_port
from tests.cli.conftest import serve

__all__ = ["serve"]

CLASSIFY, EMBED = Task(embeds=False, asked={"top_k": 2}), Task(embeds=True, asked={})
MODEL = {"name": "colours"}


def entries(*payloads: bytes | LocalFile) -> Iterator[Entry]:
    return iter([Entry(str(at), payload) for at, payload in enumerate(payloads)])


async def test_a_service_labels_as_it_answers_to_anybody(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "green.png").write_bytes(image(GREEN))
    pictures = entries(image(RED), LocalFile(f"{tmp_path}/green.png"), b"no picture", LocalFile(f"{tmp_path}/gone"))
    async with serve() as running:
        labeler = ServiceLabeler(running.http, CLASSIFY, MODEL, concurrency=2, most=2_000)
        red, green, broken, gone = [outcome async for _, outcome in labeler.outcomes(pictures)]
    assert isinstance(red, Labelled)
    assert isinstance(green, Labelled)
    assert [[one["label"] for one in outcome.predictions] for outcome in (red, green)] == [
        ["red", "green"],
        ["green", "red"],
    ]
    assert isinstance(broken, Failure)
    assert broken.code == "bad_picture"
    assert gone == Failure("unreadable_file", "It cannot be read: No such file or directory.")


async def test_a_service_embeds_as_the_graph_does(serve: Serve) -> None:
    async with serve() as running:
        name = next(iter((await running.http.get("/models")).json()["models"]))["name"]
        labeler = ServiceLabeler(running.http, EMBED, {"name": name}, concurrency=2, most=2_000)
        _, outcome = await anext(labeler.outcomes(entries(image(RED))))
    assert isinstance(outcome, Embedded)
    assert np.array_equal(outcome.embedding, np.tile(np.float32([255, 0, 0]), 16))


Answers = Callable[[httpx.Request], Awaitable[httpx.Response]]
LABELS = {"predictions": [{"label": "red", "index": 0, "probability": 1.0}]}


def labeler_of(answers: Answers, concurrency: int = 4) -> ServiceLabeler:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answers), base_url="http://service")  # type: ignore[arg-type]
    return ServiceLabeler(client, CLASSIFY, MODEL, concurrency=concurrency, most=2_000)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long it would have waited."""
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(service_labeler.asyncio, "sleep", note)
    return waited


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_service_is_asked_again_when_it_says_so(status: int, pauses: list[float]) -> None:
    answers = [httpx.Response(status, headers={"Retry-After": "7"}), httpx.Response(200, json=LABELS)]

    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return answers.pop(0)

    assert [name async for name, _ in labeler_of(answer).outcomes(entries(b"x"))] == ["0"]
    assert pauses == [7.0]


async def test_a_connection_that_breaks_is_tried_again_with_growing_pauses(pauses: list[float]) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ServiceFailed, match="http://service does not answer: ConnectError"):
        _ = [name async for name, _ in labeler_of(answer).outcomes(entries(b"x"))]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("status", [401, 404, 422])
async def test_what_is_wrong_with_every_picture_stops_all(status: int) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(status, json={"code": "no", "detail": "Not like that."})

    with pytest.raises(ServiceFailed, match=f"answers {status}: Not like that"):
        _ = [name async for name, _ in labeler_of(answer).outcomes(entries(b"x"))]


async def test_no_more_than_so_many_are_in_flight_and_they_are_told_in_order() -> None:
    inside = most = 0
    all_in = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal inside, most
        del request
        inside += 1
        most = max(most, inside)
        if inside == 4:
            all_in.set()
        await all_in.wait()
        inside -= 1
        return httpx.Response(200, json=LABELS)

    found = [name async for name, _ in labeler_of(answer, 4).outcomes(entries(*[b"x"] * 12))]
    assert found == [str(at) for at in range(12)]
    assert most == 4


@pytest.mark.process
def test_both_commands_work_with_a_running_service(
    mixer: Callable[..., int], bundle: Path, images: Path, tmp_path: Path
) -> None:
    port = free_port()
    flags = ["--port", str(port), "--bundle", str(bundle), "--workers", "1"]
    with Server("-m", "cli", "serve", *flags, port=port) as server:
        server.wait_until_serving()
        for command in ("classify", "embed"):
            for where in (["--url", f"http://127.0.0.1:{port}"], ["--bundle", bundle]):
                output = tmp_path / f"{command}{where[0]}.jsonl"
                assert mixer(command, images, "--output", output, *where) == 0
    for command, without in (("classify", "energy"), ("embed", "")):
        asked, here = (
            [json.loads(line) for line in (tmp_path / f"{command}{where}.jsonl").read_text().splitlines()]
            for where in ("--url", "--bundle")
        )
        assert asked == [{name: value for name, value in row.items() if name != without} for row in here]


async def test_what_does_not_answer_is_one_line() -> None:
    with pytest.raises(
        ServiceFailed, match=r"^http://127\.0\.0\.1:1 does not answer as this service does: ConnectError"
    ):
        async with service("http://127.0.0.1:1", "", CLASSIFY, concurrency=1, most=1):
            pass
