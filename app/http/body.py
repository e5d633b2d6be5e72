"""Request bodies -> uploaded files, under limits. Knows nothing of pictures or models."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from app.errors import BadRequest, ClientGone, DeadlinePassed, TooManyBytes, UnsupportedFormat
from app.http.inflate import ENCODINGS, Inflate
from app.http.multipart import Form, Upload
from app.http.upload_budget import BodyReservation

_MULTIPART = b"multipart/form-data"
_RAW_TYPES = (
    b"application/octet-stream",
    b"binary/octet-stream",  # object stores'
    b"application/x-www-form-urlencoded",  # curl's default
    b"",
)
_NOT_TAKEN = "URLs and base64 text are not taken: send the picture's bytes."
_MULTIPART_OVERHEAD_BYTES = 64 << 10  # boundaries, part headers and small fields around a picture
_NO_ENCODING = (b"identity", b"")
_COMPRESSED_BYTES_AT_ONCE = 4 << 10  # which may stand for a thousand times as many
_SHOWN_BYTES = 64
_SMALL_BYTES = 16 << 10  # of a body, for which room is looked for as it comes
_MAX_TYPE_BYTES = 1024  # what parses it needs time by the square of it
_FORM_BYTES_AT_ONCE = 8 << 10  # the worst that this can be takes 10 ms
_TURN_S = 0.005  # of the event loop, while more of a form is there


@dataclass(frozen=True)
class BodyLimits:
    """Largest single picture, largest body of many, most pictures in it, and how long a body may take to arrive."""

    max_image_bytes: int
    max_request_bytes: int
    max_images: int
    timeout_s: float


async def read_image(request: Request, limits: BodyLimits, reservation: BodyReservation | None = None) -> bytes:
    """One picture: the multipart field `file`, or the whole body. `reservation` counts its bytes.

    Raises: UnsupportedFormat, TooManyBytes, BadRequest, BadParameter, UploadsFull, DeadlinePassed, ClientGone.
    """
    content_type, parameters = _content_type(request)
    if content_type == _MULTIPART:
        max_bytes = limits.max_image_bytes + _MULTIPART_OVERHEAD_BYTES
        uploads = await _read_form(
            request,
            parameters,
            max_bytes,
            reservation,
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
    await _receive(request, limits.max_image_bytes, limits.timeout_s, reservation, pieces.append)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_bytes(
    request: Request, max_bytes: int, timeout_s: float, reservation: BodyReservation, *, may_be_compressed: bool = False
) -> bytes:
    """The whole body, of whatever type, at most `max_bytes` of it. Of one that is compressed, what it stands for.

    Raises: UnsupportedFormat, TooManyBytes, BadRequest, UploadsFull, DeadlinePassed, ClientGone.
    """
    encodings = [value.strip().lower() for name, value in request.scope["headers"] if name == b"content-encoding"]
    encoding = b", ".join(encodings)
    if encoding not in _NO_ENCODING and not (may_be_compressed and encoding in ENCODINGS):
        expected = "gzip, deflate or none" if may_be_compressed else "none: send it as it is"
        raise UnsupportedFormat(f"The content encoding is {_shown(encoding)}; expected {expected}.")
    pieces: list[bytes] = []
    inflate = None if encoding in _NO_ENCODING else Inflate(encoding, max_bytes, reservation, pieces.append)
    if inflate is None:
        await _receive(request, max_bytes, timeout_s, reservation, pieces.append)
    else:
        await _receive(request, max_bytes, timeout_s, reservation, inflate, _COMPRESSED_BYTES_AT_ONCE)
        inflate.end()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_form(
    request: Request, limits: BodyLimits, reservation: BodyReservation, fields: Collection[str], max_files: int
) -> list[Upload]:
    """The files in these fields of a form, with filenames or not, in order; others are passed over.

    Raises: as read_image.
    """
    _, parameters = _content_type(request)
    form = Form(parameters.get(b"boundary"), max_files, "the most expected here", fields, strict=False)
    max_bytes = limits.max_request_bytes if max_files > 1 else limits.max_image_bytes + _MULTIPART_OVERHEAD_BYTES
    return await _written(form, request, max_bytes, limits.timeout_s, reservation)


def boundary_of(request: Request) -> bytes | None:
    """Of a form; None where its type names none. Raises: UnsupportedFormat for one that is compressed, BadRequest."""
    return _content_type(request)[1].get(b"boundary")


def media_type_of(request: Request) -> str:
    """The media type of the body in lower case, without its parameters; empty where none is named."""
    told = request.headers.get("content-type", "")
    return told[:_MAX_TYPE_BYTES].partition(";")[0].strip().lower()


def _shown(value: bytes) -> str:
    return repr(value[:_SHOWN_BYTES].decode("latin-1"))


async def read_images(request: Request, limits: BodyLimits, reservation: BodyReservation | None = None) -> list[Upload]:
    """Many pictures: every multipart field `file`, in order. `reservation` counts their bytes.

    Raises: as read_image.
    """
    content_type, parameters = _content_type(request)
    if content_type != _MULTIPART:
        raise UnsupportedFormat(
            f"The content type is {content_type.decode('latin-1')!r}; expected multipart/form-data with fields 'file'."
            + _hint(content_type)
        )
    return await _read_form(
        request,
        parameters,
        limits.max_request_bytes,
        reservation,
        max_files=limits.max_images,
        timeout_s=limits.timeout_s,
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
    reservation: BodyReservation | None,
    take: Callable[[bytes], object],
    most_at_once: int | None = None,
) -> None:
    """Hand over the body as it arrives, refused as soon as it is known to be too large.

    `most_at_once`: bytes that are handed over between two looks at the clock, so that others have their turns.
    """
    declared = _declared_bytes(request)
    if declared > max_bytes:
        raise TooManyBytes(f"The body has {declared} bytes; expected at most {max_bytes}.")
    if reservation is not None and declared > _SMALL_BYTES:
        reservation.expect_room(declared)
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
                if reservation is not None:
                    reservation.add(len(piece))
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
    reservation: BodyReservation | None,
    *,
    max_files: int,
    timeout_s: float,
    most: str = "the most expected here",
) -> list[Upload]:
    form = Form(parameters.get(b"boundary"), max_files, most)
    return await _written(form, request, max_bytes, timeout_s, reservation)


async def _written(
    form: Form, request: Request, max_bytes: int, timeout_s: float, reservation: BodyReservation | None
) -> list[Upload]:
    """The files of the form, once all of it has arrived."""
    try:
        await _receive(request, max_bytes, timeout_s, reservation, form.write, _FORM_BYTES_AT_ONCE)
        return form.uploads()
    finally:
        form.close()
