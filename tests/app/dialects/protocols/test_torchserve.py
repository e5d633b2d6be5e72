"""TorchServe's clients: bytes of any type or a form in, labels with probabilities out, errors as it tells them."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.app.api.test_explain import half_red
from tests.app.color_bundle import image
from tests.app.dialects.wire import RED_PNG
from tests.app.in_process import Serve

PATH = "/predictions/colours"
HALF_RED_PNG = half_red()


def expect_refused(answer: httpx.Response, status: int, kind: str, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["code"], body["type"]) == (status, kind)
    assert set(body) == {"code", "type", "message"}
    for word in words:
        assert word in body["message"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/7"])
@pytest.mark.parametrize(
    "content_type", [None, "image/png", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"]
)
async def test_a_body_of_any_type_is_the_picture(
    serve: Serve, method: str, path: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    async with serve() as service:
        answer = await service.http.request(method, path, content=RED_PNG, headers=headers)
        native = (await service.http.post("/classify", content=RED_PNG)).json()["predictions"]
    assert answer.status_code == 200
    assert list(answer.json().items()) == [(one["label"], one["probability"]) for one in native]


@pytest.mark.parametrize("field", ["data", "body", "file"])
@pytest.mark.parametrize("filename", ["red.png", ""])
async def test_a_form_has_the_picture_in_a_field_with_a_filename_or_none(
    serve: Serve, field: str, filename: str
) -> None:
    named = f'; filename="{filename}"' if filename else ""
    parts = ['form-data; name="note"\r\n\r\n1\r\n', f'form-data; name="{field}"{named}\r\n\r\n']
    head = "".join(f"--x\r\nContent-Disposition: {part}" for part in parts)
    async with serve() as service:
        answer = await service.http.post(
            PATH,
            content=head.encode() + RED_PNG + b"\r\n--x--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
    assert answer.status_code == 200, answer.text
    assert next(iter(answer.json())) == "red"


@pytest.mark.parametrize(
    ("path", "sent", "status", "kind", "words"),
    [
        ("/predictions/other", {"content": RED_PNG}, 404, "UnknownModelException", ["'other'", "colours"]),
        (f"{PATH}/8", {"content": RED_PNG}, 404, "UnknownModelException", ["'8'", " has 7."]),
        (PATH, {"content": b"hello"}, 400, "BadPictureException", ["no picture"]),
        (PATH, {"content": b""}, 400, "BadPictureException", ["has 0 bytes"]),
        (PATH, {"files": {"other": RED_PNG}}, 422, "BadParameterException", ["'data' or 'body' or 'file'"]),
        (PATH, {"files": [("data", RED_PNG), ("data", RED_PNG)]}, 413, "TooManyBytesException", ["more than 1 file"]),
        (PATH, {"content": image((1, 2, 3), size=(4000, 4000))}, 413, "TooManyPixelsException", ["4000"]),
        (f"{PATH}/7/more", {"content": RED_PNG}, 404, "NotFoundException", ["/predictions"]),
    ],
)
async def test_errors_are_told_as_torchserve_tells_them(
    serve: Serve, path: str, sent: Mapping[str, Any], status: int, kind: str, words: list[str]
) -> None:
    async with serve(max_image_pixels=1_000_000) as service:
        expect_refused(await service.http.post(path, **sent), status, kind, *words)


async def test_a_key_is_asked_for_where_there_is_one(serve: Serve) -> None:
    async with serve(api_keys="a-key-of-sixteen-characters") as service:
        answer = await service.http.post(PATH, content=RED_PNG)
    expect_refused(answer, 401, "BadApiKeyException", "no API key")


async def test_explanations_are_a_bare_list_of_channels_rows_and_columns(serve: Serve) -> None:
    async with serve() as service:
        for path in ("/explanations/colours", "/explanations/colours/7"):
            answer = await service.http.post(path, content=HALF_RED_PNG)
            assert answer.status_code == 200
            ((first, second),) = answer.json()
            assert first[0] > 0 > first[1]
            assert first == pytest.approx(second)
        file = {"data": ("a.png", HALF_RED_PNG)}
        assert (await service.http.post("/explanations/colours", files=file)).json() == answer.json()
        assert (await service.http.put("/explanations/colours", content=RED_PNG)).status_code == 405
        refused = await service.http.post("/explanations/flowers", content=RED_PNG)
        expect_refused(refused, 404, "UnknownModelException", "flowers")
        assert service.metrics.samples()['mixer_explanations_total{method="occlusion",outcome="explained"}'] == 3


async def test_few_fields_of_a_form_are_passed_over(serve: Serve) -> None:
    field = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\n\r\n'
    file = b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + RED_PNG + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with serve() as service:
        assert (await service.http.post(PATH, content=field * 64 + file, headers=headers)).status_code == 200
        answer = await service.http.post(PATH, content=field * 65 + file, headers=headers)
    expect_refused(answer, 400, "BadRequestException", "more than 64 fields")
