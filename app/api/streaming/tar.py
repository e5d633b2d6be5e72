"""A tar as it arrives -> the files in it, one after the other. Knows nothing of requests or pictures.

tarfile reads headers; it does not read what arrives piece by piece, nor bound what a header makes it read.
"""

import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from app.api.streaming.body_reader import BodyReader
from app.errors import BadRequest

_BLOCK = tarfile.BLOCKSIZE
_NO_BLOCK = bytes(_BLOCK)
_MOST_HEADER_BYTES = 64 << 10  # of a long name, and of pax records
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_RECORDS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Member(NamedTuple):
    """A file of the tar. content: None where it has more bytes than one may have."""

    name: str
    size: int
    content: bytes | None


class _Named(NamedTuple):
    """What stands before a header and holds for it."""

    name: str | None = None
    size: int | None = None


async def members_of(
    reader: BodyReader, max_bytes: int, reserve: Callable[[int], Awaitable[object]]
) -> AsyncIterator[Member]:
    """Every regular file, in order. Folders and links are passed over, as are files whose name begins with a dot.

    `reserve` is awaited before so many bytes of a file are read. Raises: BadRequest for what is no tar, or ends before
    its end mark; what `reader` and `reserve` raise.
    """
    named = _Named()
    while True:
        block = await reader.exactly(_BLOCK)
        if block == _NO_BLOCK:
            await reader.skip_rest()
            return
        info = _info_of(block)
        size = info.size if named.size is None else named.size
        if info.type in (_LONG_NAME, *_RECORDS):
            told = await _header_bytes(reader, size)
            named = _long_name(told, named) if info.type == _LONG_NAME else _records(told, named)
            continue
        name = named.name if named.name is not None else info.name
        is_file, named = info.type in _FILES, _Named() if info.type != _LONG_LINK else named
        content: bytes | None = None
        if is_file and size <= max_bytes and _is_shown(name):
            await reserve(size)
            content = await _whole(reader, size)
        elif not await reader.skip(_in_blocks(size) if _has_content(info) else 0):
            raise _cut()
        if is_file and _is_shown(name):
            yield Member(name, size, content)


def _info_of(block: bytes) -> tarfile.TarInfo:
    if len(block) < _BLOCK:
        raise _cut()
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadRequest(f"The body is no tar: {error}.") from None
    if info.size < 0:
        raise BadRequest(f"The tar has a file of {info.size} bytes; expected 0 or more.")
    if info.type == tarfile.GNUTYPE_SPARSE:
        raise BadRequest(f"The tar has a sparse file, {info.name!r}; expected files as they are.")
    return info


async def _header_bytes(reader: BodyReader, size: int) -> bytes:
    if size > _MOST_HEADER_BYTES:
        raise BadRequest(f"The tar has a header of {size} bytes; expected at most {_MOST_HEADER_BYTES}.")
    return await _whole(reader, size)


async def _whole(reader: BodyReader, size: int) -> bytes:
    """The content of a member; what fills its last block is passed over."""
    content = await reader.exactly(size)
    if len(content) < size or not await reader.skip(_in_blocks(size) - size):
        raise _cut()
    return content


def _long_name(content: bytes, named: _Named) -> _Named:
    return named._replace(name=content.rstrip(b"\0").decode("utf-8", "surrogateescape"))


def _records(content: bytes, named: _Named) -> _Named:
    """Pax records, `LENGTH NAME=VALUE` and a line break each, of which a path and a size count."""
    while content:
        told, _, _ = content.partition(b" ")
        length = int(told) if told.isdigit() and len(told) < 9 else 0
        record = content[len(told) + 1 : length]
        if length <= len(told) + 1 or not record.endswith(b"\n") or length > len(content):
            raise BadRequest("The tar has pax records that are malformed.")
        name, _, value = record[:-1].partition(b"=")
        if name == b"path":
            named = named._replace(name=value.decode("utf-8", "surrogateescape"))
        elif name == b"size" and value.isdigit() and len(value) < 19:
            named = named._replace(size=int(value))
        content = content[length:]
    return named


def _has_content(info: tarfile.TarInfo) -> bool:
    """Whether its size is that of bytes that follow: that of a link or a folder is not."""
    return info.type not in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
                             tarfile.BLKTYPE)  # fmt: skip


def _is_shown(name: str) -> bool:
    return not name.rpartition("/")[2].startswith(".")


def _in_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _cut() -> BadRequest:
    return BadRequest("The tar ends before its end mark.")
