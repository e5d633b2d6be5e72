"""One picture to look at: its name, and where its bytes are. Knows nothing of folders, archives or models.

A name is the same in every run over the same sources: a path, ARCHIVE::MEMBER, or TABLE::ROW.
"""

import hashlib
import lzma
import os
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from app.errors import ServiceError, TooManyBytes
from cli.bulk.outcomes import UNREADABLE, Failure, failure_of

# What tarfile and zipfile raise of what they read; ValueError is for numbers and names that are none.
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)


class LocalFile(NamedTuple):
    """A file of this machine, read where it is decoded."""

    path: str


class RemoteFile(NamedTuple):
    """A file behind a URL, read where it is decoded. `size`: bytes, None where the store does not tell."""

    url: str
    size: int | None = None


Content = bytes | LocalFile | RemoteFile | Failure


class Entry(NamedTuple):
    """A picture and its bytes. A function gives them once, before the next entry of the same source is taken."""

    name: str
    content: Content | Callable[[], bytes]


class Ready(NamedTuple):
    """An entry that no longer depends on its source, and that another process may have."""

    name: str
    content: Content


def ready(entry: Entry) -> Ready:
    """The entry with the bytes that only its source can give; with a failure where it cannot."""
    if not callable(entry.content):
        return Ready(entry.name, entry.content)
    try:
        return Ready(entry.name, entry.content())
    except ServiceError as error:
        return Ready(entry.name, failure_of(error))
    except OSError as error:
        return Ready(entry.name, Failure(UNREADABLE, f"It cannot be read: {error.strerror or error}."))
    except BROKEN as error:
        return Ready(entry.name, broken(error))


def broken(error: Exception) -> Failure:
    """Of a source that ends or changes its shape where it should not."""
    return Failure(UNREADABLE, f"It is broken: {str(error).rstrip('.') or type(error).__name__}.")


def names_digest(names: Iterable[str]) -> str:
    """The SHA-256 of names in their order, each with a line feed: which pictures a shard has."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def shown(path: str) -> str:
    """A path as rows show it: what is not UTF-8 is escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_local(path: str, most: int) -> bytes:
    """A whole regular file of at most `most` bytes. Raises OSError, TooManyBytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(None, "it is a folder, a pipe, a socket or a device; expected a file")
        if status.st_size > most:
            raise too_many_bytes(status.st_size, most)
        return file.readall()


def read_standard_input(most: int) -> bytes:
    """All that comes, up to `most` bytes. Raises TooManyBytes."""
    payload = sys.stdin.buffer.read(most + 1)
    if len(payload) > most:
        raise too_many_bytes(len(payload), most)
    return payload


def too_many_bytes(size: int, most: int) -> TooManyBytes:
    """The error of a file that is larger than a picture may be."""
    return TooManyBytes(f"The picture has {size} bytes; expected at most {most}, MIXER_MAX_IMAGE_BYTES.")
