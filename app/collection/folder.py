"""The folder of kept pictures, a folder a day: DAY/REQUEST_ID-INDEX.jpg, its answer as .json, its label as .label.json.

Several processes write to it, and a reader sees a file whole or not at all. Knows nothing of requests or threads.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from app.collection.picture import ENDINGS
from app.collection.record import NAME, Correction, Outcome, Record, is_name, name_of
from app.collection.usage import Usage, locked

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_RECORD, _LABEL, _PART = ".json", ".label.json", ".part"
_MINE = re.compile(rf"{NAME}\.(?:json|label\.json|{'|'.join(sorted(ENDINGS))})(?:\.part)?")
_MOST_DAYS = 700_000  # back from 1970, and still a date
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


def write_file(path: Path, content: bytes) -> None:
    """A file that only its owner reads, whole or not at all. Raises: OSError."""
    part = path.with_name(path.name + _PART)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 -- a descriptor is no path
            file.write(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class FolderLimits:
    """Most pictures and bytes in the folder, and after how many days they are deleted; 0: never."""

    max_images: int
    max_bytes: int
    max_days: int


class Kept(NamedTuple):
    """A kept picture: its file, its answer, and its true label where somebody said one."""

    picture: Path
    record: Record
    label: str | None


class Corrected(NamedTuple):
    """What a correction found. `is_first`: whether nobody had corrected this picture before."""

    record: Record
    is_first: bool


@dataclass(frozen=True)
class Folder:
    """Where pictures are kept. `clock`: seconds since 1970. `write`: a file, or OSError and no file."""

    path: Path
    limits: FolderLimits
    clock: Callable[[], float] = time.time
    write: Callable[[Path, bytes], None] = write_file

    def make(self) -> None:
        """Make the folder where it is missing. Raises OSError where there cannot be one that this process writes to."""
        self.path.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def now(self) -> str:
        """Now, in UTC, to the millisecond; its first ten characters are the day."""
        return datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def keep(self, record: Record, content: bytes) -> Outcome:
        """Write a picture and its answer, both or neither. Raises: OSError."""
        name, answer = name_of(record.request_id, record.index), record.model_dump_json().encode()
        day, size = self.path / record.time[:10], len(content) + len(answer)
        with locked(self.path, self.clock(), self._tidied) as usage:
            if usage.images >= self.limits.max_images or usage.bytes + size > self.limits.max_bytes:
                return "dropped_limit"
            day.mkdir(_FOLDER_MODE, exist_ok=True)
            if (day / f"{name}{_RECORD}").exists():
                return "repeated"
            picture = day / record.picture
            self.write(picture, content)
            try:
                self.write(day / f"{name}{_RECORD}", answer)
            except OSError:
                picture.unlink()
                raise
            usage.images += 1
            usage.bytes += size
        return "kept"

    def correct(self, request_id: str, index: int, label: str) -> Corrected | None:
        """Write a picture's true label beside it, in place of an earlier one; None where it is not kept.

        Raises: OSError.
        """
        for day in sorted(self._days(), reverse=True):
            stem = day / name_of(request_id, index)
            record = _read_record(Path(f"{stem}{_RECORD}"))
            if record is not None:
                return Corrected(record, self._correct(Path(f"{stem}{_LABEL}"), label))
        return None

    def _correct(self, path: Path, label: str) -> bool:
        """Write a label while no other process does. Returns whether it is the first of its picture."""
        content = Correction(time=self.now(), label=label).model_dump_json().encode()
        with locked(self.path, self.clock(), self._tidied):
            is_first = not path.exists()
            self.write(path, content)
        return is_first

    def tidy(self) -> Usage:
        """Delete what is too old, and count the rest. Raises: OSError."""
        with locked(self.path, -1.0, self._tidied) as usage:
            return usage

    def pictures(self) -> Iterator[Kept]:
        """Every kept picture, in the order of days and names; what is no whole picture is passed over."""
        for day in sorted(self._days()):
            for path in sorted(day.glob(f"*{_RECORD}")):
                record = _read_record(path) if is_name(path.name.removesuffix(_RECORD)) else None
                picture = None if record is None else day / Path(record.picture).name
                if record is not None and picture is not None and picture.is_file():
                    yield Kept(picture, record, _read_label(path.with_name(path.name.removesuffix(_RECORD) + _LABEL)))

    def _tidied(self) -> Usage:
        usage = Usage(counted_at=self.clock())
        for day in self._days():
            with suppress(FileNotFoundError):  # somebody deletes days meanwhile
                if self.limits.max_days and day.name < self._oldest():
                    _delete(day)
                else:
                    _count(day, usage)
        return usage

    def _oldest(self) -> str:
        day = datetime.fromtimestamp(self.clock(), UTC) - timedelta(days=min(self.limits.max_days, _MOST_DAYS))
        return day.date().isoformat()

    def _days(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            yield from (path for path in self.path.iterdir() if _DAY.fullmatch(path.name) and path.is_dir())


def _count(day: Path, usage: Usage) -> None:
    for entry in os.scandir(day):
        with suppress(FileNotFoundError):  # somebody deletes pictures meanwhile
            usage.bytes += entry.stat().st_size
            usage.images += is_name(entry.name.removesuffix(_RECORD))


def _delete(day: Path) -> None:
    """A day's folder, and what is in it that has a name of ours; anything else stays, and the folder with it."""
    for entry in day.iterdir():
        if _MINE.fullmatch(entry.name) and entry.is_file():
            entry.unlink(missing_ok=True)
    with suppress(OSError):
        day.rmdir()


def _read_record(path: Path) -> Record | None:
    with suppress(FileNotFoundError, ValidationError):
        return Record.model_validate_json(path.read_bytes())
    return None


def _read_label(path: Path) -> str | None:
    with suppress(FileNotFoundError, ValidationError):
        return Correction.model_validate_json(path.read_bytes()).label
    return None
