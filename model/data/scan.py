"""The files below a folder: which are pictures, and what is wrong with the others. Knows no labels, decodes nothing.

A file is a picture by its suffix or by its first bytes. Links to files are followed, links to folders are not, so that
a tree has no cycles; only regular files are opened.
"""

import errno
import os
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
"""What is read, by Pillow's names. Each is known by its first bytes, and none starts another program, as EPS does."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_OTHER_SUFFIXES = frozenset(
    {
        ".jfif",
        ".jpe",
        ".jfi",
        ".jif",
        ".apng",
        ".avif",
        ".jp2",
        ".j2k",
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".psd",
        ".svg",
    }
    | {".pdf", ".eps", ".ico", ".tga", ".ppm", ".pgm", ".pbm", ".qoi", ".exr", ".hdr"}
    | {".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"}
)
_SYSTEM_FOLDERS = frozenset(
    {
        "__macosx",
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
    }
    | {"lost+found", "__pycache__", "node_modules", "cvs"}
    | {"recycled", "lost.dir", "found.000", "~snapshot", "@__thumb", "ipod photo cache"}
    | {"system volume information", "network trash folder", "temporary items"}
)
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_UNREAD_KINDS = (  # offset, bytes, name
    (4, b"ftyphe", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIF picture"),
    (4, b"ftypmsf1", "a HEIF picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"<svg", "an SVG drawing"),
)


@dataclass(frozen=True)
class File:
    """A regular file, or a link to one. `identity`: the same for every name of one file."""

    path: Path
    identity: tuple[int, int]
    is_link: bool


@dataclass
class Scan:
    """The files below a folder.

    unreadable: broken pictures and unreadable folders, with the reason. others: files that are no pictures.
    """

    images: list[File] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)


def scan(folder: Path, *, deep: bool = True) -> Scan:
    """Look at every file below `folder`, or only in it; each list is sorted. Files and folders of the system's are
    passed over.
    """
    found = Scan()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            entries = [entry for entry in os.scandir(current) if not is_of_system(entry.name)]
        except OSError as error:
            found.unreadable.append((current, f"{shown(current)} cannot be read: {error.strerror}."))
            continue
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                _sort_in(Path(entry.path), entry.is_symlink(), found)
            elif deep:
                waiting.append(Path(entry.path))
    found.images.sort(key=lambda file: file.path)
    found.unreadable.sort()
    found.others.sort()
    return found


def look(path: Path) -> Scan:
    """What one file is: in a list as `scan` would have it."""
    found = Scan()
    _sort_in(path, path.is_symlink(), found)
    return found


def is_of_system(name: str) -> bool:
    """Whether a system made this file or folder for itself: hidden ones, trash, thumbnails, metadata."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS | _SYSTEM_FILES


def shown(path: Path | str) -> str:
    """A path for people, on one line: what is not UTF-8 or controls a terminal is escaped."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c for c in text)


def _sort_in(path: Path, is_link: bool, found: Scan) -> None:
    try:
        status = path.stat()
        reason = _no_file(status.st_mode)
        is_image = reason is None and (path.suffix.lower() in IMAGE_SUFFIXES or is_identified(path))
    except OSError as error:
        broken_link = is_link and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        reason = "is a link that leads to no file" if broken_link else f"cannot be read: {error.strerror}"
        found.unreadable.append((path, f"{shown(path)} {reason}."))
        return
    if is_image:
        found.images.append(File(path, (status.st_dev, status.st_ino), is_link))
        return
    reason = reason or _unread_kind(path)
    if reason is None:
        found.others.append(path)
    else:
        found.unreadable.append((path, f"{shown(path)} {reason}."))


def _no_file(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return "is a link to a folder; expected the folder itself"
    return "is a pipe, a socket or a device; expected a file"


def is_identified(file: Path | IO[bytes]) -> bool:
    """Whether it is a picture by its first bytes. Raises OSError where they cannot be read."""
    try:
        with Image.open(file, formats=FORMATS):
            return True
    except UnidentifiedImageError:
        return False
    except OSError as error:
        if error.errno is not None:
            raise
        return True
    except Exception:  # noqa: BLE001 -- of a known format, and broken: decoding it will tell the reason
        return True


def _unread_kind(path: Path) -> str | None:
    """Why a file that looks like a picture is none of FORMATS; None where it does not look like one."""
    with path.open("rb") as file:
        start = file.read(32)
    for offset, magic, kind in _UNREAD_KINDS:
        if start[offset:].startswith(magic):
            return f"is {kind}; expected JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
    if path.suffix.lower() in _OTHER_SUFFIXES:
        return f"is not a readable picture: it starts with {start[:4].hex() or 'nothing'}"
    return None
