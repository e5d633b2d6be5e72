"""Pictures sent to a running service: the same outcomes as here, and patience where it is busy."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.errors import BadSettings
from cli.bulk.entries import Entry, LocalFile
from cli.bulk.labeler import Task
from cli.bulk.outcomes import Embedded, Failure, Labelled, Outcome, SetOfLabels
from cli.bulk.service_labeler import ServiceFailed, ServiceLabeler, service
from mixer_client import AsyncClient, ModelInfo, Retries
from tests.app.color_bundle import GREEN, RED, image
from tests.app.in_process import Serve, Service
from tests.app.servers import Server, free_port
from tests.cli.conftest import serve

__all__ = ["serve"]

CLASSIFY, EMBED = Task(embeds=False, asked={"top_k": 2}), Task(embeds=True, asked={})
AT_ONCE = Retries(jitter=lambda low, high: 0.0)  # what the client waits, its own tests tell


def entries(*payloads: bytes | LocalFile) -> Iterator[Entry]:
    return iter([Entry(str(at), payload) for at, payload in enumerate(payloads)])


async def labeler_over(running: Service, task: Task) -> ServiceLabeler:
    client = AsyncClient("http://service", transport=httpx.ASGITransport(running.app))
    return ServiceLabeler(client, task, (await client.models()).models[0], concurrency=2, most=2_000)


async def test_a_service_labels_as_it_answers_to_anybody(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "green.png").write_bytes(image(GREEN))
    (tmp_path / "large.png").write_bytes(b"x" * 2_001)
    files = [LocalFile(f"{tmp_path}/{name}") for name in ("green.png", "gone", "large.png")]
    async with serve() as running:
        labeler = await labeler_over(running, CLASSIFY)
        found = labeler.outcomes(entries(image(RED), b"no picture", *files))
        red, broken, green, gone, large = [outcome async for _, outcome in found]
    assert labeler.model == {"name": "colours", "version": "7", "precision": "fp32"}
    assert isinstance(red, Labelled)
    assert isinstance(green, Labelled)
    assert [[one["label"] for one in outcome.predictions] for outcome in (red, green)] == [
        ["red", "green"],
        ["green", "red"],
    ]
    assert isinstance(broken, Failure)
    assert broken.code == "bad_picture"
    assert gone == Failure("unreadable_file", "It cannot be read: No such file or directory.")
    assert large == Failure(
        "too_many_bytes", "The picture has 2001 bytes; expected at most 2000, MIXER_MAX_IMAGE_BYTES."
    )


async def test_a_service_embeds_as_the_graph_does_and_not_scaled(serve: Serve) -> None:
    async with serve() as running:
        labeler = await labeler_over(running, EMBED)
        _, outcome = await anext(labeler.outcomes(entries(image(RED))))
    assert isinstance(outcome, Embedded)
    assert outcome.embedding.dtype == np.float32
    assert np.array_equal(outcome.embedding, np.tile(np.float32([255, 0, 0]), 16))


Answers = Callable[[httpx.Request], Awaitable[httpx.Response]]
NAMED = {"name": "colours", "version": "7", "precision": "fp32"}
VECTOR = {
    "model_name": "a name to ask by", "model_version": "7", "parameters": {"model": "colours", "precision": "fp32"},
    "outputs": [{"data": [1.0]}],
}  # fmt: skip
LABELS = {"model": NAMED, "predictions": [{"label": "red", "index": 0, "probability": 1.0}]}
INFO = ModelInfo("a name to ask by", "colours", "7", "fp32", 3, True)


def labeler_of(answers: Answers, task: Task = CLASSIFY, concurrency: int = 4) -> ServiceLabeler:
    client = AsyncClient("http://service", transport=httpx.MockTransport(answers), retries=AT_ONCE)  # type: ignore[arg-type]
    return ServiceLabeler(client, task, INFO, concurrency=concurrency, most=2_000)


async def outcomes_of(labeler: ServiceLabeler, count: int = 1) -> list[Outcome]:
    return [outcome async for _, outcome in labeler.outcomes(entries(*[b"x"] * count))]


async def test_what_was_asked_for_is_sent_and_all_that_is_answered_is_kept() -> None:
    sent: list[httpx.URL] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url)
        certainty = {"uncertain": True, "energy": 1.5, "set": {"coverage": 0.9, "labels": ["red"]}}
        return httpx.Response(200, json={**LABELS, **certainty})

    task = Task(embeds=False, asked={"top_k": 2, "threshold": 0.5, "set": 0.9})
    (outcome,) = await outcomes_of(labeler_of(answer, task))
    assert sent[0].path == "/classify"
    assert dict(sent[0].params) == {"model": "a name to ask by", "top_k": "2", "threshold": "0.5", "set": "0.9"}
    expected = [{"label": "red", "index": 0, "probability": 1.0}]
    assert outcome == Labelled(expected, uncertain=True, energy=1.5, label_set=SetOfLabels(0.9, ("red",)))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_service_is_asked_again(status: int) -> None:
    answers = [httpx.Response(status, headers={"Retry-After": "7"}), httpx.Response(200, json=LABELS)]

    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return answers.pop(0)

    (outcome,) = await outcomes_of(labeler_of(answer))
    assert isinstance(outcome, Labelled)
    assert answers == []


async def test_a_connection_that_always_breaks_stops_all() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset", request=request)

    with pytest.raises(ServiceFailed, match=r"^http://service does not answer: reset$"):
        await outcomes_of(labeler_of(answer))


@pytest.mark.parametrize("task", [CLASSIFY, EMBED], ids=["classify", "embed"])
@pytest.mark.parametrize("status", [401, 403, 404, 405, 422])
async def test_what_is_wrong_with_every_picture_stops_all(status: int, task: Task) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(status, json={"code": "no", "detail": "Not like that."})

    with pytest.raises(ServiceFailed, match=f"answers {status} no: Not like that"):
        await outcomes_of(labeler_of(answer, task))


async def test_what_stays_busy_for_longer_than_a_picture_waits_stops_all() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        headers = {"Retry-After": "3600"}
        return httpx.Response(429, json={"code": "queue_full", "detail": "No room."}, headers=headers)

    transport = httpx.MockTransport(answer)  # type: ignore[arg-type]
    labeler = ServiceLabeler(AsyncClient(transport=transport), CLASSIFY, INFO, concurrency=1, most=9)
    with pytest.raises(ServiceFailed, match="answers 429 queue_full: No room"):
        await outcomes_of(labeler)


@pytest.mark.parametrize(("status", "stops"), [(413, False), (502, True), (504, True)])
async def test_a_proxy_without_a_service_behind_it_stops_all(status: int, stops: bool) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(status, text="<h1>It is so.</h1>")

    if stops:
        with pytest.raises(ServiceFailed, match=f"answers {status} http_error: <h1>It is so"):
            await outcomes_of(labeler_of(answer))
    else:
        assert await outcomes_of(labeler_of(answer)) == [Failure("http_error", "<h1>It is so.</h1>")]


async def test_an_answer_of_somebody_else_stops_all() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, text="<h1>Welcome</h1>")

    expected = "/classify answers 200 '<h1>Welcome</h1>'; expected the JSON of mixer-serve"
    with pytest.raises(ServiceFailed, match=expected):
        await outcomes_of(labeler_of(answer))


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

    found = [name async for name, _ in labeler_of(answer, concurrency=4).outcomes(entries(*[b"x"] * 12))]
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
    expected = r"^http://127\.0\.0\.1:1 cannot be asked for its models: http://127\.0\.0\.1:1 does not answer: .+$"
    with pytest.raises(ServiceFailed, match=expected):
        async with service("http://127.0.0.1:1", "", CLASSIFY, concurrency=1, most=1):
            pass


async def test_a_service_that_asks_for_a_key_is_told_with_where_one_is_given() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"code": "bad_api_key", "detail": "The request has no API key."}'
        head = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ServiceFailed, match=r"has no API key\. The key is --key or MIXER_API_KEY\.$"):
            async with service(url, "", CLASSIFY, concurrency=1, most=1):
                pass


@pytest.mark.parametrize(("url", "key"), [("http://", ""), ("http://127.0.0.1:1", "schlüssel")])
async def test_what_is_no_address_or_no_key_is_told(url: str, key: str) -> None:
    with pytest.raises(BadSettings, match=r"^--url or --key cannot be used: (base_url is|key has)"):
        async with service(url, key, CLASSIFY, concurrency=1, most=1):
            pass


@pytest.mark.parametrize("change", [{"name": "others"}, {"version": "8"}, {"precision": "int8"}])
async def test_another_model_that_answers_under_way_stops_the_command(change: dict[str, str]) -> None:
    answers = [LABELS, LABELS | {"model": NAMED | change}]

    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, json=answers.pop(0))

    found = labeler_of(answer, concurrency=1).outcomes(entries(b"x", b"x"))
    _, first = await anext(found)
    assert isinstance(first, Labelled)
    with pytest.raises(ServiceFailed, match=r"answers with .* now; expected colours 7 fp32, with which this began"):
        await anext(found)


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"model": "others", "precision": "fp32"}},
        {"parameters": {"model": "colours", "precision": "int8"}},
        {"model_version": "8"},
    ],
)
async def test_another_model_that_embeds_under_way_stops_the_command(change: dict[str, object]) -> None:
    answers = [VECTOR, VECTOR | change]

    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, json=answers.pop(0))

    found = labeler_of(answer, EMBED, concurrency=1).outcomes(entries(b"x", b"x"))
    _, first = await anext(found)
    assert isinstance(first, Embedded)
    with pytest.raises(ServiceFailed, match=r"answers with .* now; expected colours 7 fp32, with which this began"):
        await anext(found)


async def test_a_service_that_does_not_tell_which_model_embeds_is_trusted() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, json={name: VECTOR[name] for name in ("model_name", "model_version", "outputs")})

    (outcome,) = await outcomes_of(labeler_of(answer, EMBED))
    assert isinstance(outcome, Embedded)
