"""What an output holds so far: a file of JSON lines beside its shards. Knows nothing of formats or pictures.

The first line says what was asked of which model, every other one tells of a shard that is whole and on the disk.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from model.errors import MixerError

_FORMAT = "mixer_manifest"


class OutputError(MixerError):
    """An output exists already, is another's, or cannot be written."""


@dataclass(frozen=True)
class Run:
    """What an output was begun for. Another model, other sources or options make other rows."""

    command: str
    sources: tuple[str, ...]
    model: Mapping[str, str]
    options: Mapping[str, Any]

    def difference(self, other: "Run") -> str | None:
        """The first thing in which `other` differs, in words; None where nothing does."""
        if self.command != other.command:
            return f"mixer {self.command}, and this is mixer {other.command}"
        if self.sources != other.sources:
            return f"the sources {' '.join(self.sources)}, and this command has {' '.join(other.sources)}"
        for what, mine, others in (("model's", self.model, other.model), ("option", self.options, other.options)):
            for name in dict.fromkeys([*mine, *others]):
                if mine.get(name) != others.get(name):
                    return f"the {what} {name} {_word(mine.get(name))}, and this command has {_word(others.get(name))}"
        return None


@dataclass(frozen=True)
class Shard:
    """A file with the rows of the pictures from position `start` in the order of the sources.

    names_sha256: of their names, each with a line feed.
    """

    file: str
    start: int
    count: int
    failures: int
    names_sha256: str


class Manifest:
    """The run and the shards of an output, and the file that tells of them: one process at a time has it.

    is_complete: all sources are through.
    """

    def __init__(self, file: TextIO, run: Run, shards: Iterable[Shard] = (), *, is_complete: bool = False) -> None:
        self._file, self.run = file, run
        self.shards = list(shards)
        self.is_complete = is_complete

    @property
    def count(self) -> int:
        """Pictures in all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def failures(self) -> int:
        """Those of them that have an error."""
        return sum(shard.failures for shard in self.shards)

    def add(self, shard: Shard) -> None:
        """The shard is whole and on the disk."""
        _append(self._file, {"shard": asdict(shard)})
        self.shards.append(shard)

    def complete(self) -> None:
        """All sources are through."""
        _append(self._file, {"complete": True, "pictures": self.count, "failures": self.failures})
        self.is_complete = True

    def close(self) -> None:
        """Let another process have it."""
        with suppress(OSError):  # of a line that could not be written, as the writer of it was told
            self._file.close()


def _word(value: Any) -> str:
    return "not set" if value is None else str(value)


def created(path: Path, run: Run) -> Manifest:
    """A new one. Raises OutputError where there is one."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise OutputError(f"{path} exists; expected a new output, or --resume.") from error
    _lock(file, path)
    return _begun(file, path, run)


def resumed(path: Path, run: Run) -> Manifest:
    """That of an earlier run of the same kind; a last line that was cut short does not count.

    Raises: OutputError where it is none, is another run's, or a process writes it now.
    """
    file = path.open("r+", encoding="utf-8", errors="surrogateescape")
    try:
        _lock(file, path)
        lines = _whole_lines(file)
        return _read(file, path, run, lines) if lines else _begun(file, path, run)
    except BaseException:
        file.close()
        raise


def _whole_lines(file: TextIO) -> list[str]:
    """The lines of the file, which ends with the last whole one from here on."""
    text = file.read()
    whole = text[: text.rfind("\n") + 1]
    file.seek(0)
    file.truncate(len(whole.encode("utf-8", "surrogateescape")))
    file.seek(0, os.SEEK_END)
    return whole.splitlines()


def _read(file: TextIO, path: Path, run: Run, text: Iterable[str]) -> Manifest:
    try:
        head, *lines = map(json.loads, text)
        begun = Run(head["command"], tuple(head["sources"]), head["model"], head["options"])
        shards = [Shard(**line["shard"]) for line in lines if "shard" in line]
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{path} is no manifest of this version; expected one to resume with.") from error
    difference = begun.difference(run)
    if difference is not None:
        raise OutputError(f"{path} was begun with {difference}; expected the same to --resume.")
    return Manifest(file, begun, shards, is_complete=any("complete" in line for line in lines))


def _begun(file: TextIO, path: Path, run: Run) -> Manifest:
    _append(file, {_FORMAT: 1, **asdict(run)})
    sync_folder(path.parent)
    return Manifest(file, run)


def _append(file: TextIO, line: Mapping[str, Any]) -> None:
    file.write(f"{json.dumps(line)}\n")
    file.flush()
    os.fsync(file.fileno())


def _lock(file: TextIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OutputError(f"{path} is being written by another process; expected to be the only one.") from error


def sync_folder(folder: Path) -> None:
    """Names in a folder survive a loss of power from here on."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
