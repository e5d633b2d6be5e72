"""The body of a stream -> its pictures, one after the other: files of a tar, or of a form. Knows no answers."""

import time
from asyncio import sleep
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request

from app.api.streaming.body_reader import Body, BodyReader
from app.api.streaming.tar import members_of
from app.errors import ServiceError, TooManyBytes, UnsupportedFormat
from app.http.body import BodyLimits, boundary_of, media_type_of
from app.http.multipart import Form
from app.http.upload_budget import BodyReservation

_FORM = "multipart/form-data"
_TAR, _GZIP = ("application/x-tar", "application/tar"), ("application/gzip", "application/x-gzip")
_ANY = ("application/octet-stream", "application/x-www-form-urlencoded", "")  # curl's default, and who says nothing
_ENCODINGS = ("identity", "gzip", "x-gzip", "")  # of a tar, whose first bytes say whether it is compressed
_FORM_BYTES_AT_ONCE = 8 << 10  # the worst that this can be takes 10 ms
_TURN_S = 0.005  # of the event loop, while more of a form is there
_SHOWN = 64  # characters


@dataclass(frozen=True)
class StreamedImage:
    """A picture of a stream, and what its bytes take of the budget until `reservation` is released.

    payload: None where it has more bytes than a picture may have; `size` says how many, where that is known.
    """

    name: str
    payload: bytes | None
    size: int | None
    reservation: BodyReservation

    def expect_payload(self, most: int) -> bytes:
        """Its bytes. Raises TooManyBytes."""
        if self.payload is None:
            told = f"more than {most}" if self.size is None else str(self.size)
            raise TooManyBytes(f"The picture has {told} bytes; expected at most {most}.")
        return self.payload


Images = AsyncGenerator[StreamedImage, None]


@dataclass(frozen=True)
class Room:
    """Where the bytes of pictures are counted. `wait` is awaited until there is room for so many more of one of them.

    Raises: UploadsFull, where there was none for too long.
    """

    new: Callable[[], BodyReservation]
    wait: Callable[[BodyReservation, int], Awaitable[None]]


def images_of(request: Request, limits: BodyLimits, room: Room) -> Images:
    """Every picture, as it has come. Raises: UnsupportedFormat at once, for what is neither a form nor a tar.

    While they are read: BadRequest, BadParameter, UploadsFull, DeadlinePassed, ClientGone.
    """
    media_type = media_type_of(request)
    if media_type == _FORM:
        form = Form(boundary_of(request), -1, "", max_file_bytes=limits.max_image_bytes)
        return _files_of(form, request, limits, room)
    if media_type not in (*_TAR, *_GZIP, *_ANY):
        raise UnsupportedFormat(
            f"The content type is {media_type[:_SHOWN]!r}; expected multipart/form-data with fields 'file', or "
            "a tar as application/x-tar, be it compressed by gzip."
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnsupportedFormat(f"The content encoding is {encoding[:_SHOWN]!r}; expected gzip or none.")
    return _members_of(request, limits, room)


async def _members_of(request: Request, limits: BodyLimits, room: Room) -> Images:
    body = Body(request, limits.timeout_s)
    reader = BodyReader(body)
    await reader.expect_gzip_or_not()
    reservation = room.new()

    async def reserve(count: int) -> None:
        await room.wait(reservation, count)

    try:
        async for name, size, content in members_of(reader, limits.max_image_bytes, reserve):
            body.renew()
            held, reservation = reservation, room.new()
            yield StreamedImage(_printable(name), content, size, held)
    finally:
        reservation.release()


async def _files_of(form: Form, request: Request, limits: BodyLimits, room: Room) -> Images:
    body, reservation, counted = Body(request, limits.timeout_s), room.new(), 0
    wrong: ServiceError | None = None
    try:
        while piece := await body.next():
            since = time.perf_counter()
            for start in range(0, len(piece), _FORM_BYTES_AT_ONCE):
                try:
                    form.write(piece[start : start + _FORM_BYTES_AT_ONCE])
                except ServiceError as error:  # what was whole before it is answered first
                    wrong = error
                if form.held_bytes > counted:
                    await room.wait(reservation, form.held_bytes - counted)
                    counted = form.held_bytes
                for upload in form.take():
                    body.renew()
                    reservation.release()
                    counted, held = 0, room.new()
                    await room.wait(held, len(upload.payload))
                    payload = None if upload.is_too_large else upload.payload
                    yield StreamedImage(upload.filename, payload, None, held)
                if wrong is not None:
                    raise wrong
                if time.perf_counter() - since > _TURN_S:
                    await sleep(0)
                    since = time.perf_counter()
        form.uploads()  # or what is wrong with its end
    finally:
        form.close()
        reservation.release()


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
