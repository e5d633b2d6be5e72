"""POST /classify/stream: a line for each picture as it is done, and one for the end."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from app.engine.engine import Engine
from tests.app.api.streaming.test_tar import tar_of
from tests.app.asgi import AsgiCall
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image
from tests.app.fakes import FakeSession, GatedSession, engine_of, means_of_colors
from tests.app.in_process import Serve
from tests.app.problem_answers import expect_problem

PATH = "/classify/stream"
TAR = {"Content-Type": "application/x-tar"}
SPEC = color_spec(canary=None)
PICTURES = [("red.png", image(RED)), ("green.png", image(GREEN)), ("blue.png", image(BLUE))]
KEY = "a-key-of-sixteen-characters"


def lines_of(text: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Those of pictures by position, and what the last one says of the end."""
    *lines, end = map(json.loads, text.splitlines())
    return sorted(lines, key=lambda line: line["position"]), end["end"]


def labels_of(lines: list[dict[str, Any]]) -> list[str]:
    return [line["predictions"][0]["label"] for line in lines]


@pytest.mark.parametrize("content_type", ["application/x-tar", "application/octet-stream", "", "application/gzip"])
async def test_every_file_of_a_tar_gets_a_line(serve: Serve, content_type: str) -> None:
    content = tar_of(PICTURES)
    body = gzip.compress(content) if content_type == "application/gzip" else content
    async with serve() as service:
        answer = await service.http.post(f"{PATH}?top_k=2", content=body, headers={"Content-Type": content_type})
        samples = service.metrics.samples()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines, end = lines_of(answer.text)
    assert [line["name"] for line in lines] == ["red.png", "green.png", "blue.png"]
    assert labels_of(lines) == ["red", "green", "blue"]
    assert {len(line["predictions"]) for line in lines} == {2}
    assert lines[0]["model"] == {"name": "colours", "version": "7", "precision": "fp32"}
    assert end == {"images": 3, "failed": 0}
    assert samples['mixer_images_total{outcome="classified"}'] == 3
    assert samples["mixer_in_flight"] == 0


async def test_every_field_of_a_form_gets_a_line_however_many_there_are(serve: Serve) -> None:
    files = [("file", (f"{index}.png", content)) for index, (_, content) in enumerate(PICTURES * 40)]
    async with serve(max_images_per_request=2, max_request_bytes=4096) as service:  # of other requests
        answer = await service.http.post(PATH, files=files)
    lines, end = lines_of(answer.text)
    assert [line["name"] for line in lines] == [f"{index}.png" for index in range(120)]
    assert labels_of(lines) == ["red", "green", "blue"] * 40
    assert end == {"images": 120, "failed": 0}


async def test_a_bad_picture_spoils_its_own_line_only(serve: Serve) -> None:
    files = [("a.png", image(RED)), ("notes.txt", b"hello"), ("large.png", bytes(5000)), ("b.png", image(BLUE))]
    async with serve(max_image_bytes=4000) as service:
        answers = [
            await service.http.post(PATH, content=tar_of(files), headers=TAR),
            await service.http.post(PATH, files=[("file", file) for file in files]),
        ]
        samples = service.metrics.samples()
    for answer in answers:
        lines, end = lines_of(answer.text)
        assert [line.get("error", {}).get("code") for line in lines] == [None, "bad_picture", "too_many_bytes", None]
        assert "expected at most 4000." in lines[2]["error"]["detail"]
        assert end == {"images": 4, "failed": 2}
    assert samples['mixer_images_total{outcome="too_many_bytes"}'] == 2


async def test_a_body_that_breaks_off_ends_the_lines_with_its_error(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, content=tar_of(PICTURES)[:2500], headers=TAR)
    lines, end = lines_of(answer.text)
    assert (end["images"], len(lines)) == (2, 2)
    assert end["error"] == {"code": "bad_request", "detail": "The tar ends before its end mark."}


async def test_a_body_of_which_nothing_can_be_read_is_refused(serve: Serve) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    async with serve() as service:
        post = service.http.post
        expect_problem(await post(PATH, content=b"hello " * 300, headers=TAR), 400, "bad_request", "is no tar")
        expect_problem(await post(PATH, content=b"", headers=TAR), 400, "bad_request", "ends before its end mark")
        expect_problem(await post(PATH, content=b"--x--\r\n", headers=form), 422, "bad_parameter")
        cut = b"--x\r\nContent-Disposition: form-"
        expect_problem(await post(PATH, content=cut, headers=form), 400, "bad_request", "closing boundary")
        empty = await post(PATH, content=tar_of([]), headers=TAR)
    assert empty.text == '{"end":{"images":0,"failed":0}}\n'


async def test_what_is_known_before_the_body_is_refused_as_ever(serve: Serve) -> None:
    async with serve(api_keys=KEY) as service:
        post = service.http.post
        expect_problem(await post(PATH, content=b"", headers=TAR), 401, "bad_api_key")
        service.http.headers["X-API-Key"] = KEY
        expect_problem(await post(f"{PATH}?model=x", content=b"", headers=TAR), 404, "unknown_model")
        expect_problem(await post(f"{PATH}?top_k=9", content=b"", headers=TAR), 422, "bad_parameter")
        expect_problem(await post(PATH, json={}), 415, "unsupported_format", "or a tar as application/x-tar")
        headers = {"Content-Type": "multipart/form-data"}
        expect_problem(await post(PATH, content=b"", headers=headers), 400, "bad_request", "has no boundary")
        assert (await service.http.get(PATH)).status_code == 405


async def test_what_is_whole_before_a_fault_of_a_form_is_answered(serve: Serve) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="%b"; filename="a.png"\r\n\r\n%b\r\n'
    body = part % (b"file", image(RED)) + part % (b"picture", image(BLUE))
    async with serve() as service:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = await service.http.post(PATH, content=body, headers=headers)
    lines, end = lines_of(answer.text)
    assert labels_of(lines) == ["red"]
    assert (end["images"], end["error"]["code"]) == (1, "bad_parameter")


async def test_encodings_and_versions_that_do_not_fit_are_refused(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post(PATH, content=b"", headers={**TAR, "Content-Encoding": "br"})
        expect_problem(answer, 415, "unsupported_format", "The content encoding is 'br'")
        call = AsgiCall(PATH, TAR)
        call._scope["http_version"] = "1.0"
        await call.go(service.app)
        assert (call.status, call.body["code"]) == (400, "bad_request")


def engine() -> Engine:
    return engine_of(FakeSession(SPEC, means_of_colors), SPEC)


async def test_lines_come_before_the_body_has_ended(serve: Serve) -> None:
    content = tar_of(PICTURES)
    async with serve(engine()) as service:
        call = AsgiCall(PATH, TAR)
        task = asyncio.create_task(call.go(service.app))
        call.send_body(content[: content.index(b"green.png")], more=True)
        await call.until_sent(b'"red"')
        call.send_body(content[content.index(b"green.png") :])
        await task
    text = b"".join(message.get("body", b"") for message in call.sent[1:]).decode()
    assert lines_of(text)[1] == {"images": 3, "failed": 0}


async def test_no_more_of_it_is_inside_than_keeps_the_engine_busy_and_what_comes_meanwhile_goes_first(
    serve: Serve,
) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC), max_batch_size=8, decode_threads=1) as service:
        call = AsgiCall(PATH, TAR)
        task = asyncio.create_task(call.go(service.app))
        call.send_body(tar_of(PICTURES * 100))
        await session.entered.wait()
        for _ in range(50):
            await asyncio.sleep(0.001)
        inside = service.metrics.samples()["mixer_in_flight"]
        single = asyncio.create_task(service.http.post("/classify", content=image(BLUE)))
        session.open_gate()
        assert (await single).json()["predictions"][0]["label"] == "blue"
        assert not task.done()
        await task
    assert inside <= 2 * 2 + 2  # two runs of two, and two for the thread that decodes
    lines, end = lines_of(b"".join(message.get("body", b"") for message in call.sent[1:]).decode())
    assert end == {"images": 300, "failed": 0}
    assert labels_of(lines) == ["red", "green", "blue"] * 100


async def test_a_client_that_hangs_up_ends_all_of_it(serve: Serve) -> None:
    session = GatedSession(SPEC)
    async with serve(engine_of(session, SPEC)) as service:
        call = AsgiCall(PATH, TAR)
        task = asyncio.create_task(call.go(service.app))
        call.send_body(tar_of(PICTURES * 100), more=True)
        await session.entered.wait()
        call.hang_up()
        await task
        session.open_gate()
        await service.metrics.until(lambda: service.metrics.samples()["mixer_in_flight"] == 0)
        assert (await service.http.post("/classify", content=image(RED))).status_code == 200


@pytest.mark.parametrize("queue_capacity", [1, 64])
async def test_where_there_is_room_for_few_pictures_or_bytes_it_takes_longer_and_loses_none(
    serve: Serve, queue_capacity: int
) -> None:
    pictures = [(f"{index}.bmp", image(RED, size=(130, 130), kind="BMP")) for index in range(30)]  # of 51 kB
    sizes = {"max_image_bytes": 60_000, "max_request_bytes": 60_000, "upload_memory_bytes": 126_000}
    async with serve(queue_capacity=queue_capacity, max_images_per_request=1, **sizes) as service:
        answers = [
            await service.http.post(PATH, content=tar_of(pictures), headers=TAR),
            await service.http.post(PATH, files=[("file", file) for file in pictures]),
        ]
    for answer in answers:
        lines, end = lines_of(answer.text)
        assert end == {"images": 30, "failed": 0}
        assert labels_of(lines) == ["red"] * 30
