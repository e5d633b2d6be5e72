"""Fuzzed: a request's content type, its body, and the pieces it arrives in -> uploaded files.

An input is a line with the content type, one with the declared length, one that says how the body is cut, and the
body. A byte of the third line is the length of one piece, over and over; a "!" at its end makes the client hang up.
"""

import asyncio
import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Message

from app.errors import ClientGone, ServiceError
from app.http.body import BodyLimits, read_image, read_images
from app.settings import Settings
from tests.fuzzing.mutations import spoiled
from tests.fuzzing.targets import ACCEPTED, Checked, Finding

_TYPE = b"multipart/form-data; boundary=XX"
_FILE = b'Content-Disposition: form-data; name="file"; filename="a.png"'
_NOTE = b'Content-Disposition: form-data; name="note"'
_BASE64, _QUOTED = b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable"
_WORDS = (
    *(b"\r\n", b"\r", b"\n", b"--", b"XX", b"--XX", b"\r\n--XX", b"\r\n--XX\r\n", b"\r\n--XX--", b"--XX--\r\n"),
    *(
        b"\r\n\r\n",
        b":",
        b";",
        b'"',
        b"=",
        b"\0",
        b"\xff",
        b" ",
        b"\t",
        b"\\",
        b"'",
        b"%",
        b"filename*=utf-8''%e2%82%ac",
    ),
    *(_FILE, _NOTE, b'; name="file"', b'; filename="b"', _BASE64, _QUOTED, b"; boundary=", b"multipart/form-data"),
    *(b"multipart/mixed", b"image/png", b"a" * 300, b"YWJj", b"=3D", b"=\r\n"),
)


@dataclass(frozen=True)
class Sent:
    """A body and how it arrives."""

    content_type: bytes
    length: bytes
    pieces: tuple[bytes, ...]
    hangs_up: bool

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def at_once(self) -> "Sent":
        return Sent(self.content_type, self.length, (self.body,), self.hangs_up)


def sent(payload: bytes) -> Sent:
    content_type, length, lengths, body = (payload.split(b"\n", 3) + [b""] * 3)[:4]
    return Sent(content_type, length, tuple(cut(body, lengths.rstrip(b"!"))), lengths.endswith(b"!"))


class Fuzzed:
    """Each input is read as one picture or as many; cut as it says, and in one piece: both must come to the same."""

    kinds = ("form", "raw")
    most_bytes = 4096

    def __init__(self) -> None:
        options = Settings.model_construct()
        self._limits = BodyLimits(
            options.max_image_bytes,
            options.max_request_bytes,
            options.max_images_per_request,
            options.body_timeout_s,
        )
        self._loop = asyncio.new_event_loop()

    def seeds(self) -> dict[str, bytes]:
        return dict(_seeds())

    def mutated(self, payload: bytes, partner: bytes, rng: random.Random) -> bytes:
        for _ in range(rng.choice((1, 1, 2, 4))):
            if rng.random() < 0.5:
                at = rng.randrange(len(payload) + 1)
                payload = payload[:at] + rng.choice(_WORDS) + payload[at + rng.choice((0, 0, 1, 4)) :]
            else:
                payload = spoiled(payload, partner, rng)
        return payload[: self.most_bytes]

    def check(self, payload: bytes) -> Checked:
        return self._loop.run_until_complete(self._check(sent(payload)))

    def close(self) -> None:
        self._loop.close()

    async def _check(self, request: Sent) -> Checked:
        is_form = request.content_type.lower().startswith(b"multipart/form-data")
        outcome = await self._expect_one_outcome(request, many=is_form and len(request.body) % 2 == 0)
        return Checked("form" if is_form else "raw", outcome)

    async def _expect_one_outcome(self, request: Sent, *, many: bool) -> str:
        code, files = await self._outcome(request, many=many)
        again = await self._outcome(request.at_once(), many=many)
        if (code, files) != again:
            raise Finding(
                f"In pieces: {code} {files!r:.200}; at once: {again[0]} {again[1]!r:.200}; expected the same."
            )
        if sum(map(len, files)) > len(request.body):
            raise Finding(f"{len(request.body)} bytes became {sum(map(len, files))}; expected no more than were sent.")
        return code

    async def _outcome(self, request: Sent, *, many: bool) -> tuple[str, list[bytes]]:
        """The error's code and no files, or the files."""
        try:
            if many:
                uploads = await read_images(_request(request), self._limits)
                return ACCEPTED, [upload.payload for upload in uploads]
            return ACCEPTED, [await read_image(_request(request), self._limits)]
        except ServiceError as error:
            return error.code, []
        except ClientGone:
            return "client_gone", []


def _request(request: Sent) -> Request:
    messages = _messages(request)

    async def receive() -> Message:
        return next(messages)

    named = ((b"content-type", request.content_type), (b"content-length", request.length))
    headers = [(name, value) for name, value in named if value]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


def _messages(request: Sent) -> Iterator[Message]:
    for piece in request.pieces:
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.disconnect"} if request.hangs_up else {"type": "http.request", "body": b""}


def cut(body: bytes, lengths: bytes) -> Iterator[bytes]:
    at = turn = 0
    while at < len(body):
        length = (lengths[turn % len(lengths)] if lengths else len(body)) or 1
        yield body[at : at + length]
        at, turn = at + length, turn + 1


def _seeds() -> Iterator[tuple[str, bytes]]:
    def form(*parts: bytes, content_type: bytes = _TYPE, lengths: bytes = b"\x07\x28") -> bytes:
        body = b"".join(b"--XX\r\n" + part + b"\r\n" for part in parts) + b"--XX--\r\n"
        return content_type + b"\n\n" + lengths + b"\n" + body

    def part(content: bytes, *headers: bytes) -> bytes:
        return b"\r\n".join(headers) + b"\r\n\r\n" + content

    binary = bytes(range(0, 256, 5)) + b"\r\n--X"
    yield "one file", form(part(binary, _FILE, b"Content-Type: image/png"))
    yield "a file and notes", form(part(b"a note", _NOTE), part(binary, _FILE), part(b"", _NOTE), lengths=b"\x01")
    yield "files", form(*[part(binary[:count], _FILE) for count in (0, 1, 200)], lengths=b"")
    yield "base64", form(part(base64.encodebytes(binary).replace(b"\n", b"\r\n"), _FILE, _BASE64))
    yield "quoted", form(part(b"a=3Db=\r\nc", _FILE, _QUOTED))
    yield "binary and 8bit", form(part(binary, _FILE, b"Content-Transfer-Encoding: 8bit"), part(b"b", _FILE))
    yield "lines", form(part(b"\r\n--X\r\n--\r\r\n\r\n-", _FILE), lengths=b"\x02\x01")
    yield "an epilogue", form(part(b"a", _FILE)) + b"after it\r\n--XX\r\n"
    yield "a preamble", _TYPE + b"\n200\n\n" + b"before it\r\n--XX\r\n" + part(b"a", _FILE) + b"\r\n--XX--"
    yield "quoted boundary", form(part(b"a", _FILE), content_type=b'Multipart/Form-Data; charset=utf-8; boundary="XX"')
    yield "names", form(part(b"a", b'Content-Disposition: form-data; name="file"; filename="a\\"b;c=\xc3\xa9"; x*=y'))
    yield "hangs up", form(part(binary, _FILE), lengths=b"\x09!")
    yield "raw", b"image/png\n256\n\x30\n" + binary
    yield "raw of no type", b"\n\n\n" + binary
    yield "raw of another type", b"text/plain; charset=utf-8\n5\n\n" + binary
