"""Rows in shards on the disk, so that a run which is killed at any moment goes on without a row twice or missing.

A shard is written under another name, brought to the disk, renamed, and only then in the manifest. Parquet stays a
folder of shards. CSV and JSON lines are joined into one file at the end.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cli.bulk.entries import Entry, names_digest
from cli.bulk.formats import FORMATS, Format, Row
from cli.bulk.manifest import Manifest, OutputError, Run, Shard, created, resumed, sync_folder
from cli.bulk.outcomes import Failure
from cli.bulk.stores import SourceError


@dataclass(frozen=True)
class Place:
    """Where an output is: its shards, its manifest, and the one file in the end; None: the shards are the output."""

    path: Path
    format: Format
    parts: Path
    manifest: Path

    @property
    def whole(self) -> Path | None:
        """The one file that the shards are joined into."""
        return None if self.format.head is None else self.path


def place_of(path: Path) -> Place:
    """By the suffix of `path`. Raises OutputError for a suffix that is none of ours, or a folder that is not there."""
    chosen = FORMATS.get(path.suffix.lower())
    if chosen is None:
        raise OutputError(f"--output is {path}; expected a name that ends in {', '.join(FORMATS)}.")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"--output is {path}; expected a name in a folder that exists.")
    if chosen.head is None:
        return Place(path, chosen, path, path / "_manifest.jsonl")
    return Place(path, chosen, path.with_name(f"{path.name}.parts"), path.with_name(f"{path.name}.manifest.jsonl"))


class Output:
    """An output that is written to, by one process at a time."""

    def __init__(self, place: Place, manifest: Manifest, *, embeds: bool) -> None:
        self.place, self.manifest = place, manifest
        self._embeds = embeds
        for leftover in place.parts.glob(".*.tmp"):
            leftover.unlink()

    def rest(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """The entries that no shard has. Raises SourceError where a shard has others than the sources have now."""
        for shard in self.manifest.shards:
            names = (entry.name for entry in islice(entries, shard.count))
            if names_digest(names) != shard.names_sha256:
                raise SourceError(
                    f"The sources have changed: {shard.file} of {self.place.path} has the pictures {shard.start} to "
                    f"{shard.start + shard.count - 1} as they were; expected the same names in the same order."
                )
        yield from entries

    def expect_all(self, entries: Iterator[Entry]) -> None:
        """The sources have what the shards have, and no more. Raises SourceError."""
        if next(self.rest(entries), None) is not None:
            raise SourceError(
                f"The sources have changed: they have more than the {self.manifest.count} pictures that they had when "
                f"{self.place.path} was finished; expected the same, or another output."
            )

    def write(self, rows: Sequence[Row]) -> None:
        """One more shard. Raises OutputError."""
        shards = self.manifest.shards
        file = f"part-{len(shards):05}{self.place.format.suffix}"
        failures = sum(isinstance(outcome, Failure) for _, outcome in rows)
        digest = names_digest(name for name, _ in rows)
        try:
            self._write(rows, self.place.parts / file)
            self.manifest.add(Shard(file, self.manifest.count, len(rows), failures, digest))
        except OSError as error:
            raise OutputError(f"{self.place.parts / file} cannot be written: {error.strerror or error}.") from error

    def finish(self) -> None:
        """All sources are through: join shards that are to be one file. May be done again. Raises OutputError."""
        whole = self.place.whole
        try:
            if not self.manifest.is_complete:
                self.manifest.complete()
            if whole is not None and self.place.parts.exists():
                self._join(whole)
                shutil.rmtree(self.place.parts)
        except OSError as error:
            raise OutputError(f"{self.place.path} cannot be written: {error.strerror or error}.") from error

    def close(self) -> None:
        """Let another process go on with it."""
        self.manifest.close()

    def _write(self, rows: Sequence[Row], path: Path) -> None:
        temporary = path.with_name(f".{path.name}.tmp")
        self.place.format.write(rows, temporary, self._embeds)
        _sync(temporary)
        temporary.replace(path)
        sync_folder(path.parent)

    def _join(self, whole: Path) -> None:
        """The parts one after another. Where some are gone, an earlier try has come as far as removing them."""
        parts = [self.place.parts / shard.file for shard in self.manifest.shards]
        if whole.exists() and not all(part.exists() for part in parts):
            return
        head = self.place.format.head
        temporary = self.place.parts / ".whole.tmp"
        with temporary.open("wb") as file:
            file.write(b"" if head is None else head(self._embeds).encode())
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
        _sync(temporary)
        temporary.replace(whole)
        sync_folder(whole.absolute().parent)


def opened(place: Place, run: Run, *, resume: bool) -> Output:
    """An output to write to: a new one, or with `resume` the one that is there, if any.

    Raises: OutputError where there is one and nobody said to resume it, it is another run's, or rows of it are gone.
    """
    try:
        manifest = _manifest(place, run, resume=resume)
    except OSError as error:
        raise OutputError(f"{place.path} cannot be written: {error.strerror or error}.") from error
    try:
        _expect_shards(place, manifest)
    except OutputError:
        manifest.close()
        raise
    return Output(place, manifest, embeds=run.command == "embed")


def _manifest(place: Place, run: Run, *, resume: bool) -> Manifest:
    known = place.manifest.exists()
    if not (resume and known):
        for path in (place.path, place.parts, place.manifest):
            if path.exists() and not _is_empty_folder(path):
                reason = "has no manifest to resume with" if resume else "exists"
                raise OutputError(f"{path} {reason}; expected a new name{'' if resume else ', or --resume'}.")
    if not known:
        place.parts.mkdir(exist_ok=True)
    manifest = resumed(place.manifest, run) if known else created(place.manifest, run)
    if not manifest.is_complete:
        place.parts.mkdir(exist_ok=True)
    return manifest


def _expect_shards(place: Place, manifest: Manifest) -> None:
    if manifest.is_complete and place.whole is not None and place.whole.exists():
        return
    for shard in manifest.shards:
        path = place.parts / shard.file
        if not path.exists():
            raise OutputError(f"{path} is gone, and {place.manifest} tells of its rows; expected it, or a new output.")


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
