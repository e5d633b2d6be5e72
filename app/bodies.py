"""Request bodies -> uploaded files, under limits. Knows nothing of pictures or models."""

import asyncio
import io
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.errors import BadParameter, BadRequest, ClientGone, DeadlinePassed, TooManyBytes, UnsupportedFormat

FIELD = "file"
_MULTIPART = b"multipart/form-data"
_RAW_TYPES = (b"application/octet-stream", b"application/x-www-form-urlencoded", b"")  # the second is curl's default
_MULTIPART_OVERHEAD_BYTES = 64 << 10  # boundaries, part headers and small fields around a picture

_MAX_FIELDS = 100  # besides the files: none of them means anything here


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


async def read_picture(request: Request, limits: BodyLimits) -> bytes:
    """One picture: the multipart field `file`, or the whole body.

    Raises: UnsupportedFormat, TooManyBytes, BadRequest, BadParameter, DeadlinePassed, ClientGone.
    """
    content_type, parameters = parse_options_header(request.headers.get("content-type"))
    if content_type == _MULTIPART:
        max_bytes = limits.max_picture_bytes + _MULTIPART_OVERHEAD_BYTES
        uploads = await _read_form(request, parameters, max_bytes, max_files=1, timeout_s=limits.timeout_s)
        return uploads[0].payload
    if content_type not in _RAW_TYPES and not content_type.startswith(b"image/"):
        raise UnsupportedFormat(
            f"The content type is {content_type.decode('latin-1')!r}; "
            "expected multipart/form-data with a field 'file', image/* or application/octet-stream."
        )
    body = bytearray()
    async for chunk in _chunks(request, limits.max_picture_bytes, limits.timeout_s):
        body += chunk
    return bytes(body)


async def read_pictures(request: Request, limits: BodyLimits) -> list[Upload]:
    """Many pictures: every multipart field `file`, in order.

    Raises: as read_picture.
    """
    content_type, parameters = parse_options_header(request.headers.get("content-type"))
    if content_type != _MULTIPART:
        raise UnsupportedFormat(
            f"The content type is {content_type.decode('latin-1')!r}; expected multipart/form-data with fields 'file'."
        )
    return await _read_form(
        request, parameters, limits.max_request_bytes, max_files=limits.max_pictures, timeout_s=limits.timeout_s
    )


async def _chunks(request: Request, max_bytes: int, timeout_s: float) -> AsyncIterator[bytes]:
    """The body as it arrives, refused as soon as it is known to be too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise TooManyBytes(f"The body has {declared} bytes; expected at most {max_bytes}.")
    received = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                received += len(chunk)
                if received > max_bytes:
                    raise TooManyBytes(f"The body has more than {max_bytes} bytes, the most expected.")
                yield chunk
    except TimeoutError:
        raise DeadlinePassed(f"The body had not arrived after {timeout_s:g} s; {received} bytes had.") from None
    except ClientDisconnect:
        raise ClientGone from None


async def _read_form(
    request: Request, parameters: dict[bytes, bytes], max_bytes: int, *, max_files: int, timeout_s: float
) -> list[Upload]:
    form = _Form(parameters.get(b"boundary"), max_files)
    async for chunk in _chunks(request, max_bytes, timeout_s):
        form.write(chunk)
    return form.uploads()


class _Form:
    """A multipart body on its way in. Files stay in memory: their sum is limited, and a disk may be read-only."""

    def __init__(self, boundary: bytes | None, max_files: int) -> None:
        if not boundary:
            raise BadRequest("The content type multipart/form-data has no boundary; expected one.")
        self._max_files = max_files
        self._files: list[Upload] = []
        self._fields = 0
        self._ended = False
        try:
            self._parser = FormParser(
                _MULTIPART.decode(),
                self._on_field,
                self._on_file,
                self._on_end,
                boundary=boundary,
                config={"MAX_MEMORY_FILE_SIZE": math.inf},
            )
        except FormParserError as error:
            raise BadRequest(f"The multipart boundary cannot be used: {error}") from error

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadRequest(f"The multipart body is malformed: {error}") from error

    def uploads(self) -> list[Upload]:
        if not self._ended:
            raise BadRequest("The multipart body ends before its closing boundary.")
        if not self._files:
            raise BadParameter(f"The form has no file in a field {FIELD!r}; expected one.")
        return self._files

    def _on_field(self, field: Field) -> None:
        if field.field_name == FIELD.encode():
            raise BadParameter(f"The field {FIELD!r} has no filename; expected an uploaded file.")
        self._fields += 1
        if self._fields > _MAX_FIELDS:
            raise TooManyBytes(f"The form has more than {_MAX_FIELDS} fields besides its files, the most expected.")

    def _on_file(self, file: File) -> None:
        if file.field_name != FIELD.encode():
            raise BadParameter(f"The form has a file in the field {_shown(file.field_name)!r}; expected {FIELD!r}.")
        if len(self._files) == self._max_files:
            raise TooManyBytes(f"The form has more than {self._max_files} files, the most expected here.")
        content = cast(io.BytesIO, file.file_object).getvalue()
        self._files.append(Upload(_shown(file.file_name), content))

    def _on_end(self) -> None:
        self._ended = True


def _shown(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", errors="replace")[:255]
