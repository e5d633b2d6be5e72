"""Request bodies under limits: multipart and raw, whole and broken, fast and slow. All of it through POST /classify."""

import asyncio
import base64
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import main
from app.engine.engine import Engine
from app.settings import Settings
from tests.app.asgi import AsgiCall
from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.in_process import Serve, Service
from tests.app.problem_answers import expect_problem, expect_problem_body
from tests.pace import is_within

FORM = {"content-type": "multipart/form-data; boundary=XX"}


def part(content: bytes, *headers: str) -> bytes:
    """One part of a form whose boundary is XX."""
    head = "\r\n".join(headers).encode("latin-1")
    return b"--XX\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def disposition(name: str = "file", filename: str | None = "a.png") -> str:
    suffix = "" if filename is None else f'; filename="{filename}"'
    return f'Content-Disposition: form-data; name="{name}"{suffix}'


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


WHOLE = form(part(image(RED), disposition(), "Content-Type: image/png"))


async def best_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    label: str = answer.json()["predictions"][0]["label"]
    return label


async def expect_service(service: Service) -> None:
    """The service still answers."""
    assert await best_of(await service.http.post("/classify", content=image(GREEN))) == "green"


# --- what is accepted ---


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "image/png",
        "image/anything",
        "IMAGE/JPEG; q=1",
        "application/octet-stream",
        "binary/octet-stream",
        "application/x-www-form-urlencoded",
    ],
)
async def test_a_raw_body_may_say_that_it_is_a_picture_or_nothing(content_type: str | None, serve: Serve) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    async with serve() as service:
        assert await best_of(await service.http.post("/classify", content=image(BLUE), headers=headers)) == "blue"


async def test_a_form_and_a_raw_body_get_the_same_answer(serve: Serve) -> None:
    payload = image((200, 90, 10))
    async with serve() as service:
        raw = await service.http.post("/classify", content=payload)
        formed = await service.http.post("/classify", files={"file": ("a.png", payload, "image/png")})
    assert raw.status_code == formed.status_code == 200
    assert raw.content == formed.content


AS_IT_IS = ("binary", "Binary", "8bit", "7bit", "")


@pytest.mark.parametrize(
    "body",
    [
        WHOLE,
        WHOLE + b"an epilogue",
        form(part(image(RED), disposition(filename="../../etc/passwd"))),
        form(part(image(RED), disposition(filename="bild-ä-\u00ff.png"))),
        form(part(image(RED), disposition(), "Content-Type: text/html")),
        *(form(part(image(RED), disposition(), f"Content-Transfer-Encoding: {told}")) for told in AS_IT_IS),
    ],
)
async def test_a_form_may_have_more_around_its_file(body: bytes, serve: Serve) -> None:
    async with serve() as service:
        assert await best_of(await service.http.post("/classify", content=body, headers=FORM)) == "red"


async def test_a_body_may_arrive_in_any_pieces(serve: Serve) -> None:
    async with serve() as service:
        for body, headers in ((WHOLE, FORM), (image(RED), {"content-type": "image/png"})):
            for size in (1, 7, 64):
                call = AsgiCall("/classify", headers)
                for start in range(0, len(body), size):
                    call.send_body(body[start : start + size], more=True)
                call.send_body(b"")
                await call.go(service.app)
                assert call.status == 200
                assert call.body["predictions"][0]["label"] == "red"


async def test_a_large_file_stays_in_memory(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a temporary file was opened")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    payload = image(BLUE, size=(1000, 1000), kind="BMP")
    assert len(payload) > 1 << 20
    async with serve() as service:
        assert await best_of(await service.http.post("/classify", files={"file": payload})) == "blue"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (form(part(image(RED), disposition(), "Content-Transfer-Encoding: 8bit")), 200),
        (form(part(base64.b64encode(image(RED)), disposition(), "Content-Transfer-Encoding: base64")), 400),
        (b"\r\n\r\n" + WHOLE, 200),
        (b"\r\na preamble-\r\n" + WHOLE, 400),
    ],
)
async def test_what_a_form_means_does_not_depend_on_its_pieces(body: bytes, status: int, serve: Serve) -> None:
    async with serve() as service:
        for size in (1, 2, 3, 5, 64, len(body)):
            call = AsgiCall("/classify", FORM)
            for start in range(0, len(body), size):
                call.send_body(body[start : start + size], more=True)
            call.send_body(b"")
            await call.go(service.app)
            assert call.status == status, f"in pieces of {size}: {call.body}"


async def test_what_is_wrong_with_a_form_is_told_its_sender_and_not_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = part(image(RED), disposition(), "Content-Transfer-Encoding: unheard-of")
    async with serve() as service:
        for body in (*MALFORMED, WHOLE + b"an epilogue" * 1000, form(unknown)):
            await service.http.post("/classify", content=body, headers=FORM)
    assert {record.name for record in caplog.records} <= {"mixer.access", "mixer.main", "httpx", "mixer.drain"}


# --- what is refused ---


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain; charset=utf-8", "video/mp4", "multipart/mixed"]
)
async def test_another_content_type_is_refused(content_type: str, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post("/classify", content=image(RED), headers={"content-type": content_type})
        named = content_type.partition(";")[0]
        expect_problem(answer, 415, "unsupported_format", f"'{named}'", "expected multipart/form-data", "image/*")
        await expect_service(service)


async def test_many_pictures_come_as_a_form_or_not_at_all(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post("/classify/batch", content=image(RED), headers={"content-type": "image/png"})
        expect_problem(
            answer, 415, "unsupported_format", "'image/png'", "expected multipart/form-data with fields 'file'"
        )


@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8"])
async def test_a_text_is_told_that_neither_urls_nor_base64_are_taken(
    content_type: str, path: str, serve: Serve
) -> None:
    async with serve() as service:
        answer = await service.http.post(path, content=b"{}", headers={"content-type": content_type})
        words = "URLs and base64 text are not taken: send the picture's bytes."
        expect_problem(answer, 415, "unsupported_format", "expected multipart/form-data", words)


BOUNDARY_CASES = [
    ("multipart/form-data", "no boundary"),
    ("multipart/form-data; boundary=", "no boundary"),
    ("multipart/form-data; boundary=" + "X" * 300, "oundary"),
    ("multipart/form-data; boundary=YY", ""),
]


@pytest.mark.parametrize(("content_type", "words"), BOUNDARY_CASES)
async def test_a_boundary_that_is_missing_or_wrong(content_type: str, words: str, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post("/classify", content=WHOLE, headers={"content-type": content_type})
        expect_problem(answer, 400, "bad_request", words)
        await expect_service(service)


@pytest.mark.parametrize("length", [0, 1, 4, 20, 60, len(WHOLE) - 20, len(WHOLE) - 5])
async def test_a_form_that_is_cut_off(length: int, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post("/classify", content=WHOLE[:length], headers=FORM)
        expect_problem(answer, 400, "bad_request", "The multipart body ends before its closing boundary.")
        await expect_service(service)


MALFORMED = [
    b"garbage",
    b"--XX\r\n\x00\xff\xfe: \x01\r\n\r\nx\r\n--XX--\r\n",
    form(b"--XX\r\nno colon here\r\n\r\nx\r\n"),
    form(part(b"x", "Content-Disposition: form-data")),
    form(part(b"x", "X-Other: 1")),
    form(part(image(RED), disposition(), *[f"X-{number}: 1" for number in range(20)])),
    form(part(image(RED), disposition(), "X-Long: " + "x" * 10_000)),
]


@pytest.mark.parametrize("body", MALFORMED)
async def test_a_malformed_form_is_a_bad_request(body: bytes, serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post("/classify", content=body, headers=FORM)
        expect_problem(answer, 400, "bad_request", "multipart")
        await expect_service(service)


@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
@pytest.mark.parametrize("encoding", ["base64", "Base64", "quoted-printable", "x" * 100])
async def test_a_part_that_is_not_its_bytes_is_refused(encoding: str, path: str, serve: Serve) -> None:
    body = form(part(base64.b64encode(image(RED)), disposition(), f"Content-Transfer-Encoding: {encoding}"))
    async with serve() as service:
        answer = await service.http.post(path, content=body, headers=FORM)
        words = f"The multipart body has a part in the transfer encoding '{encoding[:64]}'; expected its bytes."
        expect_problem(answer, 400, "bad_request", words)
        await expect_service(service)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (form(), "The form has no file in a field 'file'; expected one."),
        (
            form(part(image(RED), disposition("picture"))),
            "The form has a file in the field 'picture'; expected 'file'.",
        ),
        (
            form(part(image(RED), disposition(filename=None))),
            "The field 'file' has no filename; expected an uploaded file, curl -F file=@NAME.",
        ),
        (form(part(image(RED), disposition(name=""))), "The form has a file in the field ''; expected 'file'."),
    ],
)
async def test_a_form_without_its_file(body: bytes, words: str, serve: Serve) -> None:
    async with serve() as service:
        for path in ("/classify", "/classify/batch"):
            expect_problem(await service.http.post(path, content=body, headers=FORM), 422, "bad_parameter", words)
        await expect_service(service)


async def test_an_empty_file_is_no_picture(serve: Serve) -> None:
    async with serve() as service:
        nameless = form(part(b"", disposition(filename="")))  # what a browser sends when no file was chosen
        for body, headers in ((b"", {}), (nameless, FORM), (form(part(b"", disposition())), FORM)):
            answer = await service.http.post("/classify", content=body, headers=headers)
            expect_problem(answer, 400, "bad_picture", "The picture has 0 bytes; expected an image file.")


async def test_one_picture_at_a_time(serve: Serve) -> None:
    async with serve() as service:
        files = [("file", ("a.png", image(RED))), ("file", ("b.png", image(BLUE)))]
        answer = await service.http.post("/classify", files=files)
        expect_problem(
            answer, 413, "too_many_bytes", "more than 1 file, the most of /classify; /classify/batch takes several."
        )
        await expect_service(service)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("top_k", "The form has a field 'top_k'; expected top_k in the query: ?top_k=..."),
        ("topk", "The form has a field 'topk'; expected top_k in the query: ?top_k=..."),
        ("model", "The form has a field 'model'; expected model in the query: ?model=..."),
        ("set", "The form has a field 'set'; expected set in the query: ?set=..."),
        ("note", "The form has a field 'note'; expected only 'file', with the bytes of a picture."),
    ],
)
async def test_a_field_that_means_nothing_is_refused(field: str, words: str, serve: Serve) -> None:
    note, file = part(b"1", disposition(field, None)), part(image(RED), disposition())
    async with serve() as service:
        for path, body in itertools.product(("/classify", "/classify/batch"), (form(note, file), form(file, note))):
            expect_problem(await service.http.post(path, content=body, headers=FORM), 422, "bad_parameter", words)
        await expect_service(service)


# --- how large, how slow ---


async def test_a_body_that_declares_too_much_is_not_even_read(serve: Serve) -> None:
    async with serve(max_image_bytes=1000) as service:
        call = AsgiCall("/classify", {"content-type": "image/png", "content-length": "1001"})
        await call.go(service.app)  # nothing of the body ever arrives
        expect_problem_body(call.body, 413, "too_many_bytes", "The body has 1001 bytes; expected at most 1000.")
        assert not call.listened.is_set()
        await expect_service(service)


@pytest.mark.parametrize("length", ["", "-5", "five", "\u00b2", "9" * 5000])
async def test_a_length_that_is_no_number_is_none(length: str, serve: Serve) -> None:
    """None of them comes past the server's own parser; should another stand there, the bytes are counted anyway."""
    async with serve() as service:
        call = AsgiCall("/classify", {"content-type": "image/png"})
        call._scope["headers"].append((b"content-length", length.encode("latin-1")))
        call.send_body(image(RED))
        await call.go(service.app)
        assert call.status == 200


async def test_a_body_that_turns_out_too_large_is_refused_as_soon_as_it_is(serve: Serve) -> None:
    async with serve(max_image_bytes=1000) as service:
        for headers in ({"content-type": "image/png"}, {"content-type": "image/png", "content-length": "17"}):
            call = AsgiCall("/classify", headers)
            call.send_body(bytes(900), more=True)
            call.send_body(bytes(900), more=True)  # and there would be more
            await call.go(service.app)
            expect_problem_body(call.body, 413, "too_many_bytes", "The body has more than 1000 bytes")
        await expect_service(service)


async def test_a_form_may_be_a_little_larger_than_its_picture_but_not_much(serve: Serve) -> None:
    payload = image(GREEN)
    async with serve(max_image_bytes=len(payload)) as service:
        assert await best_of(await service.http.post("/classify", files={"file": payload})) == "green"
        answer = await service.http.post("/classify", files={"file": payload + b"x"})
        expect_problem(answer, 413, "too_many_bytes", f"{len(payload) + 1} bytes; expected at most {len(payload)}.")
        answer = await service.http.post("/classify", files={"file": bytes(70_000)})
        expect_problem(answer, 413, "too_many_bytes", f"expected at most {len(payload) + 65536}.")
        await expect_service(service)


@pytest.mark.parametrize(("headers", "sent"), [({"content-type": "image/png"}, image(RED)[:10]), (FORM, WHOLE[:30])])
async def test_a_body_that_never_ends_gets_504(headers: dict[str, str], sent: bytes, serve: Serve) -> None:
    async with serve(body_timeout_s=0.05) as service:
        call = AsgiCall("/classify", headers)
        call.send_body(sent, more=True)
        await call.go(service.app)
        words = f"The body had not arrived after 0.05 s; {len(sent)} bytes had."
        expect_problem_body(call.body, 504, "deadline_passed", words)
        await expect_service(service)


@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
async def test_a_client_that_hangs_up_while_sending_is_counted_and_nothing_more(path: str, serve: Serve) -> None:
    async with serve() as service:
        call = AsgiCall(path, FORM)
        call.send_body(WHOLE[:40], more=True)
        call.hang_up()
        await call.go(service.app)
        assert call.sent == []
        samples = service.metrics.samples()
        assert samples['mixer_dropped_total{reason="client_gone",stage="receive"}'] == 1
        assert samples[f'mixer_requests_total{{endpoint="{path}",status="499"}}'] == 1
        await expect_service(service)


# --- whatever arrives ---

_scraps = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"--XX", b"\r\n", b"\r\n\r\n", b"--XX--\r\n", b"--", b"XX", b"\r", b"\n", b":", disposition().encode(),
         disposition(filename=None).encode(), b"Content-Transfer-Encoding: base64", b"=", b'"', image(RED)]
    ),
)  # fmt: skip


@pytest.mark.heavy
@settings(deadline=None, max_examples=60)
@given(bodies=st.lists(st.lists(_scraps, max_size=12).map(b"".join), min_size=1, max_size=5))
def test_whatever_is_sent_as_a_form_gets_a_label_or_a_fault_of_the_clients(bodies: list[bytes], engine: Engine) -> None:
    async def send_all() -> None:
        app = main.create_service(Settings(), engine).app
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            for body in bodies:
                answer = await client.post("/classify", content=body, headers=FORM)
                assert answer.status_code in (200, 400, 413, 415, 422)
                assert answer.json()

    asyncio.run(send_all())


# --- what would hold up the event loop ---


async def _longest_turn(service: Service, request: Callable[[], Awaitable[httpx.Response]]) -> tuple[int, float]:
    """The status that a request gets, and the longest time in which nobody else had a turn."""
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    answer = await request()
    looking.cancel()
    return answer.status_code, longest


SLOW = {
    "a content type of semicolons": (b"", "multipart/form-data" + ";" * 60_000, 400),
    "a content type of quotes": (b"", 'multipart/form-data; a="' + '\\"' * 30_000, 400),
    "parts with names of semicolons": (
        form(*[part(b"", disposition("note", None) + ";" * 900)] * 100, part(image(RED), disposition())),
        FORM["content-type"],
        422,
    ),
    "a part with a name of semicolons": (
        form(part(image(RED), disposition() + ";" * 4000)),
        FORM["content-type"],
        400,
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize(("body", "content_type", "status"), SLOW.values(), ids=SLOW.keys())
async def test_no_form_holds_up_the_event_loop(body: bytes, content_type: str, status: int, serve: Serve) -> None:
    async with serve() as service:

        async def request() -> httpx.Response:
            return await service.http.post("/classify", content=body, headers={"content-type": content_type})

        await request()  # what is done once is not counted
        turns = [await _longest_turn(service, request) for _ in range(3)]
        assert {told for told, _ in turns} == {status}
        if len(content_type) > 1024:
            expect_problem(await request(), 400, "bad_request", "expected at most 1024")
        assert is_within(min(longest for _, longest in turns), 0.05)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x" * 5000])
@pytest.mark.parametrize("path", ["/classify", "/classify/batch"])
async def test_a_body_that_is_packed_is_refused(path: str, encoding: str, serve: Serve) -> None:
    async with serve() as service:
        headers = {**FORM, "content-encoding": encoding}
        answer = await service.http.post(path, content=WHOLE, headers=headers)
        expect_problem(answer, 415, "unsupported_format")
        assert f"'{encoding[:64]}'" in answer.json()["detail"]
        assert (
            await service.http.post(path, content=WHOLE, headers={**FORM, "content-encoding": "Identity"})
        ).is_success
