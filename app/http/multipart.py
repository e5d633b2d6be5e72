"""A form as it arrives -> the files in it. Knows nothing of requests, and of pictures only their field's name."""

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import BadParameter, BadRequest, TooManyBytes
from app.system.spelling import nearest

FIELD = "file"
_NOWHERE = logging.Logger("forms", logging.CRITICAL + 1)  # what is wrong with a form is told its sender, not the log
_ENCODINGS = (b"7bit", b"8bit", b"binary", b"")  # a part is its bytes; others are deprecated (RFC 7578, 4.7)
_SHOWN_BYTES = 64
_MOST_PASSED_OVER = 64  # fields: each takes tens of microseconds, and few bytes
_MAX_DISPOSITION_BYTES = 1024  # what parses it needs time by the square of it
_QUERY = ("top_k", "model", "threshold", "set")  # parameters that hasty clients put into the form


@dataclass(frozen=True)
class Upload:
    """One uploaded file, in memory."""

    filename: str
    payload: bytes
    is_too_large: bool = False  # and has been let go of


class Form:
    """A multipart body on its way in, with at most `max_files` in these `fields`, which are `most` in words.

    Files stay in memory: their sum is limited, and a disk may be read-only. `strict`: whether a file has to have a
    filename, and other fields are refused; a few of them are passed over else. `max_file_bytes`: what is larger is let
    go of, for one who takes files as they come; else the sum alone counts.

    Raises: BadRequest, BadParameter, TooManyBytes.
    """

    def __init__(
        self,
        boundary: bytes | None,
        max_files: int,
        most: str,
        fields: Collection[str] = (FIELD,),
        *,
        strict: bool = True,
        max_file_bytes: float = math.inf,
    ) -> None:
        if not boundary:
            raise BadRequest("The content type multipart/form-data has no boundary; expected one.")
        self._max_files, self._most, self._fields, self._strict = max_files, most, fields, strict
        self._field = " or ".join(map(repr, fields))
        self._max_file_bytes = max_file_bytes
        self._files: list[Upload] = []
        self._taken = 0
        self._begun = self._ended = False
        self._passed_over = 0
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
        """More of the body."""
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

    @property
    def held_bytes(self) -> int:
        """Of the file that is on its way, and of those that are complete and not taken."""
        return len(self._content) + sum(len(one.payload) for one in self._files)

    def take(self) -> list[Upload]:
        """The files that are complete, and were not taken before."""
        taken, self._files = self._files, []
        self._taken += len(taken)
        return taken

    def uploads(self) -> list[Upload]:
        """The files of a form that is complete, but for those that were taken."""
        if not self._ended:
            raise BadRequest("The multipart body ends before its closing boundary.")
        if not self._files and not self._taken:
            raise BadParameter(f"The form has no file in a field {self._field}; expected one.")
        return self._files

    def _begin_part(self) -> None:
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._filename: bytes | None = None
        self._content = bytearray()
        self._is_too_large = False

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
        if self._filename is None and self._strict:
            self._expect_field(name)
        elif self._filename is None and _shown(name) in self._fields:
            self._filename = b""
        elif self._filename is None:
            self._pass_over()
        if self._filename is not None:
            self._expect_file(name)

    def _pass_over(self) -> None:
        self._passed_over += 1
        if self._passed_over > _MOST_PASSED_OVER:
            raise BadRequest(f"The form has more than {_MOST_PASSED_OVER} fields beside its file, the most expected.")

    def _expect_field(self, name: bytes) -> None:
        shown = _shown(name)
        if shown in self._fields:
            raise BadParameter(
                f"The field {shown!r} has no filename; expected an uploaded file, curl -F {shown}=@NAME."
            )
        meant = nearest(shown, (*_QUERY, *self._fields))
        if meant in _QUERY:
            raise BadParameter(f"The form has a field {shown!r}; expected {meant} in the query: ?{meant}=...")
        raise BadParameter(f"The form has a field {shown!r}; expected only {self._field}, with the bytes of a picture.")

    def _expect_file(self, name: bytes) -> None:
        if _shown(name) not in self._fields:
            raise BadParameter(f"The form has a file in the field {_shown(name)!r}; expected {self._field}.")
        if len(self._files) == self._max_files and not self._taken:
            files = "1 file" if self._max_files == 1 else f"{self._max_files} files"
            raise TooManyBytes(f"The form has more than {files}, {self._most}.")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary")
        if encoding.lower() not in _ENCODINGS:
            shown = encoding[:_SHOWN_BYTES].decode("latin-1")
            raise BadRequest(f"The multipart body has a part in the transfer encoding {shown!r}; expected its bytes.")

    def _on_content(self, data: bytes, start: int, end: int) -> None:
        if self._filename is None:
            return
        self._is_too_large = self._is_too_large or len(self._content) + end - start > self._max_file_bytes
        if self._is_too_large:
            self._content.clear()
        else:
            self._content += data[start:end]

    def _end_part(self) -> None:
        if self._filename is not None:
            self._files.append(Upload(_shown(self._filename), bytes(self._content), self._is_too_large))
            self._content.clear()

    def _on_end(self) -> None:
        self._ended = True


def _shown(name: bytes) -> str:
    return name.decode("utf-8", errors="replace")[:255]
