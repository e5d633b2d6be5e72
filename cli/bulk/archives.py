"""The pictures in tar and zip files, one after another. Knows nothing of where the archive lies.

A tar is read once from its start, compressed or not, and nothing of it is held. A zip's table of contents is held.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, BinaryIO

from cli.bulk.entries import Entry, broken, too_many_bytes
from cli.bulk.outcomes import UNREADABLE, Failure, failure_of
from cli.bulk.trees import has_image_suffix
from model.data.scan import is_identified, is_of_system

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ZIP_SUFFIXES = (".zip",)

Open = Callable[[], BinaryIO]
_END = "EOFHeaderError"  # what tarfile raises for the mark at the end of a whole archive
_LINK = Failure(UNREADABLE, "It is a link inside an archive; expected the picture itself.")


class _Header(tarfile.TarInfo):
    """A header of a tar. A broken or missing one is an error; tarfile takes it for the end, and the rest is lost."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Header":
        """The next header. Raises HeaderError at the end, ReadError in the middle."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ == _END:
                raise
            raise tarfile.ReadError(f"it ends or breaks off at byte {tarfile_.offset}: {error}") from error


def tar_entries(name: str, opened: Open, most: int, *, seekable: bool) -> Iterator[Entry]:
    """The pictures of a tar, as NAME::MEMBER. `most`: bytes that one may have. A broken archive ends with a failure."""
    mode = "r:*" if seekable else "r|*"
    try:
        with opened() as file, tarfile.open(fileobj=file, mode=mode, tarinfo=_Header) as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                archive.members.clear()
                entry = _of_member(f"{name}::{member.name.removeprefix('./')}", archive, member, most)
                if entry is not None:
                    yield entry
    except (tarfile.TarError, OSError, EOFError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
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
                read = partial(archive.read, member)
                entry = _entry(f"{name}::{member.filename}", member.filename, member.file_size, most, read)
                if entry is not None:
                    yield entry
    except (zipfile.BadZipFile, OSError) as error:
        yield Entry(name, broken(error))


def _entry(name: str, member: str, size: int, most: int, read: Callable[[], bytes]) -> Entry | None:
    if has_image_suffix(member):
        return Entry(name, failure_of(too_many_bytes(size, most)) if size > most else read)
    if size > most:
        return None
    payload = read()
    file: IO[bytes] = io.BytesIO(payload)
    return Entry(name, payload) if is_identified(file) else None


def _is_hidden(member: str) -> bool:
    return any(is_of_system(part) for part in member.split("/") if part not in ("", "."))
