"""A tar as it arrives -> the files in it, one after the other. Knows nothing of requests or pictures.

tarfile reads headers; it does not read what arrives piece by piece, nor bound what a header makes it read.
"""

import asyncio
import tarfile
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from app.api.streaming.body_reader import BodyReader, Reserve
from app.errors import BadRequest

_BLOCK = tarfile.BLOCKSIZE
_NO_BLOCK = bytes(_BLOCK)
_MOST_HEADER_BYTES = 64 << 10  # of a long name, and of pax records
_LENGTH_DIGITS = 7  # of a record, with the space behind them
_TURN_S = 0.002  # of the event loop, while more is there
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_RECORDS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_OF_THE_NEXT = (_LONG_LINK, tarfile.XGLTYPE)  # members that leave a name for the one behind them
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


async def members_of(reader: BodyReader, max_bytes: int, reserve: Reserve) -> AsyncIterator[Member]:
    """Every regular file, in order. Folders and links are passed over, as are files whose name begins with a dot.

    `reserve` is awaited before so many bytes of a file are kept. Raises: BadRequest for what is no tar, or ends before
    its end mark; what `reader` and `reserve` raise.
    """
    named, since = _Named(), time.perf_counter()
    while True:
        if time.perf_counter() - since > _TURN_S:
            await asyncio.sleep(0)
            since = time.perf_counter()
        block = await reader.exactly(_BLOCK)
        if block == _NO_BLOCK:
            await reader.skip_rest()
            return
        info = _info_of(block)
        is_file = info.type in _FILES
        size = named.size if named.size is not None and is_file else info.size
        if info.type in (_LONG_NAME, *_RECORDS):
            told = await _header_bytes(reader, size)
            named = _long_name(told, named) if info.type == _LONG_NAME else _records(told, named)
            continue
        name = named.name if named.name is not None else info.name
        named = named if info.type in _OF_THE_NEXT else _Named()
        content: bytes | None = None
        if is_file and size <= max_bytes and _is_shown(name):
            content = await _whole(reader, size, reserve)
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
        raise BadRequest(f"The body is no tar: {error}; expected one, as it is or compressed by gzip.") from None
    if info.size < 0:
        raise BadRequest(f"The tar has a file of {info.size} bytes; expected 0 or more.")
    if info.type == tarfile.GNUTYPE_SPARSE:
        raise BadRequest(f"The tar has a sparse file, {info.name!r}; expected files as they are.")
    return info


async def _header_bytes(reader: BodyReader, size: int) -> bytes:
    if size > _MOST_HEADER_BYTES:
        raise BadRequest(f"The tar has a header of {size} bytes; expected at most {_MOST_HEADER_BYTES}.")
    return await _whole(reader, size)


async def _whole(reader: BodyReader, size: int, reserve: Reserve | None = None) -> bytes:
    """The content of a member; what fills its last block is passed over."""
    content = await reader.exactly(size, reserve)
    if len(content) < size or not await reader.skip(_in_blocks(size) - size):
        raise _cut()
    return content


def _long_name(content: bytes, named: _Named) -> _Named:
    return named._replace(name=content.partition(b"\0")[0].decode("utf-8", "surrogateescape"))


def _records(content: bytes, named: _Named) -> _Named:
    """Pax records, `LENGTH NAME=VALUE` and a line break each, of which a path and a size count."""
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + _LENGTH_DIGITS)
        told = content[at:space] if space > at else b""
        end = at + int(told) if told.isdigit() else 0
        name, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not space + 1 < end <= len(content) or content[end - 1 : end] != b"\n" or not equals:
            raise BadRequest("The tar has pax records that are malformed.")
        if name == b"path":
            named = named._replace(name=value.decode("utf-8", "surrogateescape"))
        elif name == b"size" and value.isdigit() and len(value) < 19:
            named = named._replace(size=int(value))
        at = end
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
