"""The pictures in tar and zip files, one after another. Knows nothing of where the archive lies.

A tar is read once from its start, compressed or not, and nothing of it is held. A zip's table of contents is held.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, BinaryIO

from cli.bulk.entries import BROKEN, Entry, broken, ready, shown, too_many_bytes
from cli.bulk.outcomes import UNREADABLE, Failure, failure_of
from cli.bulk.trees import has_image_suffix
from model.data.scan import is_identified, is_of_system

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ZIP_SUFFIXES = (".zip",)

Open = Callable[[], BinaryIO]
_MOST_ABOUT_BYTES = 1 << 20  # of a header that has the next one's long name, or more about it
_ABOUT_THE_NEXT = frozenset(
    (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
)
_PIECE_BYTES = 1 << 14  # of a zip's member: zipfile inflates as much as it is asked for, whatever a size says
_END = "EOFHeaderError"  # what tarfile raises for the mark at the end of a whole archive
_LINK = Failure(UNREADABLE, "It is a link inside an archive; expected the picture itself.")


class _Archive(tarfile.TarFile):
    """A tar that is read on behind the mark at its end: archives that were joined have one after each.

    has_ended: whether there was such a mark, so that the end of the file, or what is no header, is the end of all.
    """

    has_ended = False


class _Header(tarfile.TarInfo):
    """A header of a tar. A broken or missing one is an error; tarfile takes it for the end, and the rest is lost."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """A header from its block. Raises ReadError for names and records that are too long to be held."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _ABOUT_THE_NEXT and header.size > _MOST_ABOUT_BYTES:
            raise tarfile.ReadError(f"a header has {header.size} bytes; expected {_MOST_ABOUT_BYTES} at most")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Header":
        """The next header. Raises HeaderError at the end, ReadError in the middle."""
        assert isinstance(tarfile_, _Archive)  # noqa: S101 -- what tar_entries opens
        at = tarfile_.offset
        try:
            header = super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ == _END:
                tarfile_.has_ended = True
                raise
            if tarfile_.has_ended:
                raise tarfile.EmptyHeaderError(str(error)) from error  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"it ends or breaks off at byte {tarfile_.offset}: {error}") from error
        if header.size < 0 or tarfile_.offset <= at:
            raise tarfile.ReadError(f"the size at byte {at} is {header.size}; expected 0 or more")
        return header


def tar_entries(name: str, opened: Open, most: int, *, seekable: bool) -> Iterator[Entry]:
    """The pictures of a tar, as NAME::MEMBER. `most`: bytes that one may have. A broken archive ends with a failure."""
    mode = "r:*" if seekable else "r|*"
    try:
        with opened() as file, _Archive.open(fileobj=file, mode=mode, tarinfo=_Header, ignore_zeros=True) as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                archive.members.clear()
                entry = _of_member(f"{name}::{shown(member.name.removeprefix('./'))}", archive, member, most)
                if entry is not None:
                    yield entry
    except (OSError, *BROKEN) as error:
        yield Entry(name, broken(error))


def _of_member(name: str, archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> Entry | None:
    if member.isdir() or _is_hidden(member.name):
        return None
    if not member.isfile():
        return Entry(name, _LINK) if has_image_suffix(member.name) else None
    return _entry(name, member.name, member.size, most, partial(_of_tar, archive, member))


def _of_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    payload = b"" if file is None else file.read()
    if len(payload) != member.size:
        raise tarfile.ReadError(f"it has {len(payload)} of {member.size} bytes")
    return payload


def zip_entries(name: str, opened: Open, most: int) -> Iterator[Entry]:
    """The pictures of a zip, as NAME::MEMBER, in the order of its contents. A broken archive ends with a failure."""
    try:
        with opened() as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.is_dir() or _is_hidden(member.filename):
                    continue
                read = partial(_of_zip, archive, member)
                entry = _entry(f"{name}::{shown(member.filename)}", member.filename, member.file_size, most, read)
                if entry is not None:
                    yield entry
    except (OSError, *BROKEN) as error:
        yield Entry(name, broken(error))


def _of_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        return b"".join(iter(partial(file.read, _PIECE_BYTES), b""))


def _entry(name: str, member: str, size: int, most: int, read: Callable[[], bytes]) -> Entry | None:
    if has_image_suffix(member):
        return Entry(name, failure_of(too_many_bytes(size, most)) if size > most else read)
    if size > most:
        return None
    content = ready(Entry(name, read)).content
    file: IO[bytes] = io.BytesIO(content if isinstance(content, bytes) else b"")
    return Entry(name, content) if isinstance(content, Failure) or is_identified(file) else None


def _is_hidden(member: str) -> bool:
    return any(is_of_system(part) for part in member.split("/") if part not in ("", ".", ".."))
