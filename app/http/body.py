"""Request bodies -> uploaded files, under limits. Knows nothing of pictures or models."""

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from app.errors import BadParameter, BadRequest, ClientGone, DeadlinePassed, TooManyBytes, UnsupportedFormat
from app.http.upload_budget import Cargo
from app.system.spelling import nearest

FIELD = "file"
_MULTIPART = b"multipart/form-data"
_RAW_TYPES = (
    b"application/octet-stream",
    b"binary/octet-stream",  # object stores'
    b"application/x-www-form-urlencoded",  # curl's default
    b"",
)
_NOT_TAKEN = "URLs and base64 text are not taken: send the picture's bytes."
_MULTIPART_OVERHEAD_BYTES = 64 << 10  # boundaries, part headers and small fields around a picture
_WHITE_SPACE = b" \t\r\n"
_NOWHERE = logging.Logger("forms", logging.CRITICAL + 1)  # what is wrong with a form is told its sender, not the log
_ENCODINGS = (b"base64", b"quoted-printable")
_NO_ENCODING = (b"identity", b"")
_SHOWN_BYTES = 64
_MAX_TYPE_BYTES = _MAX_DISPOSITION_BYTES = 1024  # what parses them needs time by the square of it
_FORM_BYTES_AT_ONCE = 8 << 10  # the worst that this can be takes 10 ms
_TURN_S = 0.005  # of the event loop, while more of a form is there
_DECODED_AT_ONCE = 512 << 10  # of an encoded part, between turns of the event loop
_QUERY = ("top_k", "model")  # parameters that hasty clients put into the form


@dataclass(frozen=True)
class Upload:
    """One uploaded file, in memory."""

    filename: str
    payload: bytes


@dataclass(frozen=True)
class BodyLimits:
    """Largest single picture, largest body of many, most pictures in it, and how long a body may take to arrive."""

    max_picture_bytes: int
    max_request_bytes: int
    max_pictures: int
    timeout_s: float


async def read_picture(request: Request, limits: BodyLimits, cargo: Cargo | None = None) -> bytes:
    """One picture: the multipart field `file`, or the whole body. `cargo` counts its bytes.

    Raises: UnsupportedFormat, TooManyBytes, BadRequest, BadParameter, UploadsFull, DeadlinePassed, ClientGone.
    """
    content_type, parameters = _content_type(request)
    if content_type == _MULTIPART:
        max_bytes = limits.max_picture_bytes + _MULTIPART_OVERHEAD_BYTES
        uploads = await _read_form(
            request,
            parameters,
            max_bytes,
            cargo,
            max_files=1,
            timeout_s=limits.timeout_s,
            most="the most of /classify; /classify/batch takes several",
        )
        return uploads[0].payload
    if content_type not in _RAW_TYPES and not content_type.startswith(b"image/"):
        raise UnsupportedFormat(
            f"The content type is {content_type.decode('latin-1')!r}; "
            "expected multipart/form-data with a field 'file', image/* or application/octet-stream."
            + _hint(content_type)
        )
    pieces: list[bytes] = []
    await _receive(request, limits.max_picture_bytes, limits.timeout_s, cargo, pieces.append)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_pictures(request: Request, limits: BodyLimits, cargo: Cargo | None = None) -> list[Upload]:
    """Many pictures: every multipart field `file`, in order. `cargo` counts their bytes.

    Raises: as read_picture.
    """
    content_type, parameters = _content_type(request)
    if content_type != _MULTIPART:
        raise UnsupportedFormat(
            f"The content type is {content_type.decode('latin-1')!r}; expected multipart/form-data with fields 'file'."
            + _hint(content_type)
        )
    return await _read_form(
        request, parameters, limits.max_request_bytes, cargo, max_files=limits.max_pictures, timeout_s=limits.timeout_s
    )


def _content_type(request: Request) -> tuple[bytes, dict[bytes, bytes]]:
    """The media type of the body, in lower case, and its parameters."""
    told = b""
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            told = value
        elif name == b"content-encoding" and value.strip().lower() not in _NO_ENCODING:
            raise UnsupportedFormat(
                f"The content encoding is {value[:_SHOWN_BYTES].decode('latin-1')!r}; expected none: send it as it is."
            )
    if len(told) > _MAX_TYPE_BYTES:
        raise BadRequest(f"The content type has {len(told)} bytes; expected at most {_MAX_TYPE_BYTES}.")
    return parse_options_header(told)


def _hint(content_type: bytes) -> str:
    is_text = content_type == b"application/json" or content_type.startswith(b"text/")
    return f" {_NOT_TAKEN}" if is_text else ""


async def _receive(
    request: Request,
    max_bytes: int,
    timeout_s: float,
    cargo: Cargo | None,
    take: Callable[[bytes], object],
    most_at_once: int | None = None,
) -> None:
    """Hand over the body as it arrives, refused as soon as it is known to be too large.

    `most_at_once`: bytes that are handed over between two looks at the clock, so that others have their turns.
    """
    declared = _declared_bytes(request)
    if declared > max_bytes:
        raise TooManyBytes(f"The body has {declared} bytes; expected at most {max_bytes}.")
    if cargo is not None:
        cargo.expect_room(declared)
    received, more = 0, True
    try:
        async with asyncio.timeout(timeout_s):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece, more = message.get("body", b""), message.get("more_body", False)
                received += len(piece)
                if received > max_bytes:
                    raise TooManyBytes(f"The body has more than {max_bytes} bytes, the most expected.")
                if cargo is not None:
                    cargo.load(len(piece))
                if most_at_once is None or len(piece) <= most_at_once:
                    take(piece)
                else:
                    await _in_turns(piece, most_at_once, take)
    except TimeoutError:
        raise DeadlinePassed(f"The body had not arrived after {timeout_s:g} s; {received} bytes had.") from None


async def _in_turns(piece: bytes, most_at_once: int, take: Callable[[bytes], object]) -> None:
    since = time.perf_counter()
    for start in range(0, len(piece), most_at_once):
        take(piece[start : start + most_at_once])
        if time.perf_counter() - since > _TURN_S:
            await asyncio.sleep(0)
            since = time.perf_counter()


def _declared_bytes(request: Request) -> int:
    """0 where nothing is declared, or nothing that is a number."""
    try:
        return int(request.headers.get("content-length", "0"))
    except ValueError:
        return 0


async def _read_form(
    request: Request,
    parameters: dict[bytes, bytes],
    max_bytes: int,
    cargo: Cargo | None,
    *,
    max_files: int,
    timeout_s: float,
    most: str = "the most expected here",
) -> list[Upload]:
    form = _Form(parameters.get(b"boundary"), max_files, most)
    try:
        await _receive(request, max_bytes, timeout_s, cargo, form.write, _FORM_BYTES_AT_ONCE)
        return await form.uploads()
    finally:
        form.close()


class _Form:
    """A multipart body on its way in. Files stay in memory: their sum is limited, and a disk may be read-only.

    A part is decoded once all of it is there, so that what it means does not depend on the pieces it arrived in.
    """

    def __init__(self, boundary: bytes | None, max_files: int, most: str) -> None:
        if not boundary:
            raise BadRequest("The content type multipart/form-data has no boundary; expected one.")
        self._max_files, self._most = max_files, most
        self._files: list[Upload] = []
        self._encoded: list[tuple[int, bytearray, bytes]] = []  # which file, its content, and its encoding
        self._begun = self._ended = False
        self._begin_part()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_content,
                    "on_part_end": self._end_part,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise BadRequest(f"The multipart boundary cannot be used: {error}") from error
        self._parser.logger = _NOWHERE

    def write(self, chunk: bytes) -> None:
        if not self._begun:
            chunk = chunk.lstrip(b"\r\n")
            self._begun = bool(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadRequest(f"The multipart body is malformed: {error}") from error

    def close(self) -> None:
        """The parser and this one hold each other, and the files, until the garbage collector finds them."""
        del self._parser

    async def uploads(self) -> list[Upload]:
        if not self._ended:
            raise BadRequest("The multipart body ends before its closing boundary.")
        if not self._files:
            raise BadParameter(f"The form has no file in a field {FIELD!r}; expected one.")
        while self._encoded:
            index, content, encoding = self._encoded.pop()
            self._files[index] = Upload(self._files[index].filename, await _decoded(content, encoding))
        return self._files

    def _begin_part(self) -> None:
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._filename: bytes | None = None
        self._content = bytearray()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value).strip(b" \t")
        self._name, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        told = self._headers.get(b"content-disposition", b"")
        if len(told) > _MAX_DISPOSITION_BYTES:
            raise BadRequest(
                f"The multipart body has a part with {len(told)} bytes of Content-Disposition; "
                f"expected at most {_MAX_DISPOSITION_BYTES}."
            )
        _, parameters = parse_options_header(told)
        name, self._filename = parameters.get(b"name"), parameters.get(b"filename")
        if name is None:
            raise BadRequest("The multipart body has a part without a name; expected a Content-Disposition with one.")
        if self._filename is None:
            self._expect_field(name)
        else:
            self._expect_file(name)

    def _expect_field(self, name: bytes) -> None:
        if name == FIELD.encode():
            raise BadParameter(
                f"The field {FIELD!r} has no filename; expected an uploaded file, curl -F {FIELD}=@NAME."
            )
        shown = _shown(name)
        meant = nearest(shown, (*_QUERY, FIELD))
        if meant in _QUERY:
            raise BadParameter(f"The form has a field {shown!r}; expected {meant} in the query: ?{meant}=...")
        raise BadParameter(f"The form has a field {shown!r}; expected only {FIELD!r}, with the bytes of a picture.")

    def _expect_file(self, name: bytes) -> None:
        if name != FIELD.encode():
            raise BadParameter(f"The form has a file in the field {_shown(name)!r}; expected {FIELD!r}.")
        if len(self._files) == self._max_files:
            files = "1 file" if self._max_files == 1 else f"{self._max_files} files"
            raise TooManyBytes(f"The form has more than {files}, {self._most}.")

    def _on_content(self, data: bytes, start: int, end: int) -> None:
        if self._filename is not None:
            self._content += data[start:end]

    def _end_part(self) -> None:
        if self._filename is not None:
            encoding = bytes(self._headers.get(b"content-transfer-encoding", b"")).lower()
            if encoding in _ENCODINGS:
                self._encoded.append((len(self._files), self._content, encoding))
                self._files.append(Upload(_shown(self._filename), b""))
            else:
                self._files.append(Upload(_shown(self._filename), bytes(self._content)))

    def _on_end(self) -> None:
        self._ended = True


async def _decoded(content: bytearray, encoding: bytes) -> bytes:
    """Piece by piece: the whole of a large one would hold up the event loop, which no thread could prevent."""
    decoded = bytearray()
    pieces = _quads(content) if encoding == b"base64" else _lines(content)
    for piece in pieces:
        decoded += piece
        await asyncio.sleep(0)
    return bytes(decoded)


def _quads(content: bytearray) -> Iterator[bytes]:
    """base64, of which only the end may be padded."""
    left = b""
    for start in range(0, len(content), _DECODED_AT_ONCE):
        piece = left + content[start : start + _DECODED_AT_ONCE].translate(None, _WHITE_SPACE)
        is_last = start + _DECODED_AT_ONCE >= len(content)
        end = len(piece) if is_last else max(0, len(piece) - 1) // 4 * 4  # so that something is left for the last
        left = bytes(piece[end:])
        if not is_last and b"=" in piece[:end]:
            raise BadRequest("The multipart body has a part that is no base64: more follows its padding.")
        try:
            yield base64.b64decode(piece[:end], validate=True)
        except binascii.Error as error:
            raise BadRequest(f"The multipart body has a part that is no base64: {error}.") from error


def _lines(content: bytearray) -> Iterator[bytes]:
    """Quoted-printable, cut behind line breaks only."""
    start = 0
    while start < len(content):
        end = len(content)
        if end - start > _DECODED_AT_ONCE:
            end = content.rfind(b"\n", start, start + _DECODED_AT_ONCE) + 1
            if not end:
                raise BadRequest(
                    f"The multipart body has a quoted-printable part with a line of more than {_DECODED_AT_ONCE} "
                    "bytes; expected at most 76."
                )
        yield binascii.a2b_qp(bytes(content[start:end]))
        start = end


def _shown(name: bytes) -> str:
    return name.decode("utf-8", errors="replace")[:255]
