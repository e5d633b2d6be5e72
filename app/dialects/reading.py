"""Bodies of other protocols: JSON, text in base64, raw bytes, forms, under the limits of all. Knows no protocol."""

import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic_core import from_json

from app.errors import BadImage, BadParameter, BadRequest, TooManyBytes
from app.http.body import BodyLimits, media_type_of, read_bytes, read_form
from app.http.upload_budget import BodyReservation

MOST_VALUES = 1_000_000  # of a JSON body: each takes up to a hundred bytes of memory, and a microsecond
_DATA_URI = "data:"
_FORM = "multipart/form-data"
_FIELDS = ("file", "image", "data", "body", "inputs")  # of a form, which may have its picture
_SHOWN = 40  # characters
_FETCHED_NOWHERE = "Addresses are not fetched: send the picture itself, in base64."


@dataclass(frozen=True)
class Body:
    """The body of one request, not read yet."""

    request: Request
    limits: BodyLimits
    reservation: BodyReservation

    @property
    def media_type(self) -> str:
        """In lower case, without parameters."""
        return media_type_of(self.request)

    async def content(self, *, may_be_compressed: bool = False, several: bool = False) -> bytes:
        """All of it. `several`: whether it may be as large as that of a request for many pictures.

        Raises: UnsupportedFormat, TooManyBytes, BadRequest, UploadsFull, DeadlinePassed, ClientGone.
        """
        most = self.limits.max_request_bytes if several else self.limits.max_image_bytes
        return await read_bytes(
            self.request, most, self.limits.timeout_s, self.reservation, may_be_compressed=may_be_compressed
        )

    async def json(self) -> dict[str, Any]:
        """The JSON object that it is. Raises as `content`."""
        return json_object(await self.content(may_be_compressed=True, several=True))

    async def file(self) -> bytes:
        """The one picture of a request: all of the body, or the file of a form in any of the usual fields.

        Raises: as `files`.
        """
        if self.media_type == _FORM:
            return (await self.files(_FIELDS))[0]
        return await self.content()

    async def files(self, fields: Collection[str], max_files: int = 1) -> list[bytes]:
        """The files in these fields of a form. Raises: as `content`, and BadParameter."""
        return [
            upload.payload for upload in await read_form(self.request, self.limits, self.reservation, fields, max_files)
        ]

    def picture(self, value: object, where: str) -> bytes:
        """The file that a value of a JSON body holds in base64, as it is or as a data URI. `where`: its name.

        Raises: BadParameter, BadImage, TooManyBytes, UploadsFull.
        """
        if not isinstance(value, str):
            raise BadParameter(f"{where} is {kind_of(value)}; expected a picture file as text in base64.")
        text = value
        if value[: len(_DATA_URI)].lower() == _DATA_URI:
            head, comma, text = value.partition(",")
            if not comma or not head.lower().endswith(";base64"):
                raise BadParameter(f"{where} is {value[:_SHOWN]!r}; expected data:image/...;base64,...")
        most = self.limits.max_image_bytes
        if len(text) * 3 // 4 - 2 > most:
            raise TooManyBytes(f"{where} has {len(text) * 3 // 4} bytes; expected at most {most}.")
        try:
            encoded = text.encode("ascii")
            decoded = binascii.a2b_base64(encoded, strict_mode=False) if _is_base64(encoded) else b""
        except (UnicodeEncodeError, binascii.Error):
            decoded = b""
        if not decoded:
            hint = f" {_FETCHED_NOWHERE}" if "://" in text[:_SHOWN] else ""
            raise BadImage(f"{where} is {value[:_SHOWN]!r}; expected a picture file in base64.{hint}")
        self.reservation.add(len(decoded))
        return decoded


def json_object(content: bytes) -> dict[str, Any]:
    """Raises: BadRequest, TooManyBytes for more values than a body may have."""
    values = content.count(b",") + content.count(b"[") + content.count(b"{")
    if values > MOST_VALUES:
        raise TooManyBytes(
            f"The JSON has about {values} values; expected at most {MOST_VALUES}: send tensors in binary."
        )
    try:
        parsed = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"The body is no JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise BadRequest(f"The body is {kind_of(parsed)}; expected a JSON object.")
    return parsed


def expect_some(count: int, most: int) -> None:
    """So many pictures are at least one, and no more than a request may have. Raises: BadParameter, TooManyBytes."""
    if not count:
        raise BadParameter("The request has no picture; expected at least 1.")
    if count > most:
        raise TooManyBytes(f"The request has {count} pictures; expected at most {most}.")


def whole_number(value: object, where: str) -> int | None:
    """A number of a JSON body, 1 or more; None where it is absent or null. Raises BadParameter."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadParameter(f"{where} is {str(value)[:_SHOWN]}; expected a whole number, 1 or more.")
    return value


def _is_base64(encoded: bytes) -> bool:
    """Whether it is made of what base64 is made of, with breaks of lines; at once, as a picture has millions."""
    return not encoded.translate(None, delete=_ALPHABET)


_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"


def kind_of(value: object) -> str:
    """What JSON calls it."""
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
