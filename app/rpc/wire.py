"""How much of a ModelInferRequest is not tensors, seen before it is parsed. Knows the wire format, and no meaning.

A parsed field may take fifty times its bytes, except where it is bytes itself. So files may be as large as the message,
numbers many, and all the rest has to be little.
"""

from collections.abc import Iterator
from typing import NamedTuple

from app.errors import BadRequest, TooManyBytes

_MOST_STRUCTURE_BYTES, _MOST_NUMBER_BYTES = 64 << 10, 4 << 20
_RAW, _INPUTS, _CONTENTS, _FILES = 7, 5, 5, 8  # numbers of fields: of the request, of an input, of its contents
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES = 10


class _Part(NamedTuple):
    """A field whose value says its own length."""

    number: int
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of its value."""
        return self.end - self.begin


def expect_little_structure(content: bytes) -> None:
    """In time that is bounded by what may be there. Raises: BadRequest for what is no message, TooManyBytes."""
    if len(content) <= _MOST_STRUCTURE_BYTES:
        return
    walk, numbers = _Walk(content), 0
    for field in walk.parts(0, len(content)):
        if field.number == _INPUTS:
            numbers += _numbers_in(walk, field)
        elif field.number != _RAW:
            walk.spend(field.size)
    if numbers > _MOST_NUMBER_BYTES:
        raise TooManyBytes(
            f"The message has {numbers} bytes of numbers in contents; expected at most {_MOST_NUMBER_BYTES}: "
            "send tensors in raw_input_contents."
        )


def _numbers_in(walk: "_Walk", tensor: _Part) -> int:
    numbers = 0
    for field in walk.parts(tensor.begin, tensor.end):
        if field.number != _CONTENTS:
            walk.spend(field.size)
            continue
        numbers += sum(values.size for values in walk.parts(field.begin, field.end) if values.number != _FILES)
    return numbers


class _Walk:
    """Reads the fields of messages one after the other, and counts what is structure."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = _MOST_STRUCTURE_BYTES

    def spend(self, count: int) -> None:
        """So many bytes are structure. Raises TooManyBytes."""
        self._left -= count
        if self._left < 0:
            raise TooManyBytes(f"The message has more than {_MOST_STRUCTURE_BYTES} bytes beside its tensors.")

    def parts(self, at: int, end: int) -> Iterator[_Part]:
        """The fields of a message that have a length; what is before their values, and all others, are structure."""
        while at < end:
            began = at
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            size = 0
            if kind in (_VARINT, _DELIMITED):
                size, at = self._varint(at, end)
            elif kind in _FIXED:
                at += _FIXED[kind]
            else:
                raise _no_message()
            self.spend(at - began)
            if kind == _DELIMITED:
                at += size
                if at > end:
                    raise _no_message()
                yield _Part(number, at - size, at)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """A number, and where it ends."""
        value = shift = 0
        for byte in self._content[at : min(at + _VARINT_BYTES, end)]:
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise _no_message()


def _no_message() -> BadRequest:
    return BadRequest("The message is no ModelInferRequest.")
