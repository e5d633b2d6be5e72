"""A folder of Parquet files, one for each shard, that many processes write side by side, here or behind a URL.

A file is there whole or not at all, and says in its footer which pictures it has, and what was asked of which model. So
the folder is its own manifest: a run that was killed goes on with the shards that have no file. A shard that is done
twice has the same rows in the same file.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from cli.bulk.entries import names_digest
from cli.bulk.formats import Row, arrow_table
from cli.bulk.manifest import OutputError, Run, sync_folder
from cli.bulk.outcomes import Failure
from cli.bulk.run import Tally
from cli.bulk.shards import Shard
from cli.bulk.stores import SourceError, is_url, require

_KEY = b"mixer"  # in a footer
_DONE = "_SUCCESS"  # as other engines name it


@dataclass(frozen=True)
class Part:
    """What the footer of a file says."""

    run: Run
    count: int
    failures: int
    names_sha256: str


class Parts:
    """The folder of an output. Raises MixerError where its scheme is not known here."""

    def __init__(self, path: str) -> None:
        require("fsspec", f"Writing {path}")
        require("pyarrow", f"Writing {path}")
        import fsspec  # noqa: PLC0415

        self.path = path
        self.begun: Run | None = None
        self._system, self._folder = fsspec.core.url_to_fs(path, use_listings_cache=False)
        self._is_local = not is_url(path)

    def rest(self, shards: Iterable[Shard], tally: Tally, *, resume: bool) -> Iterator[Shard]:
        """The shards that have no file yet; what is in the others is added to the tally, and `begun` is what they say.

        Raises: OutputError where there are files and nobody said to resume, or one is not ours; SourceError where one
        has other pictures than its shard.
        """
        found = {one.rpartition("/")[2] for one in self._listed()}
        if found and not resume:
            raise OutputError(f"{self.path} exists; expected a new name, or --resume.")
        if self._is_local:
            self._tidy(Path(self._folder))
        for shard in shards:
            name = name_of(shard.number)
            if name not in found:
                yield shard
                continue
            part = self._part(name)
            if part.names_sha256 != shard.names_sha256:
                raise _changed(f"{name} of {self.path} has other pictures than its part of them")
            found.discard(name)
            self.begun = self.begun or part.run
            tally.count += part.count
            tally.failures += part.failures
        if too_many := sorted(name for name in found if name.startswith("part-")):
            raise _changed(f"they are fewer than those of {self.path}, which has {too_many[0]}, too")

    def write(self, shard: Shard, rows: Sequence[Row], run: Run) -> Part:
        """The file of a shard. Raises: OutputError; SourceError where the rows are not those of its pictures."""
        name = name_of(shard.number)
        if names_digest(row for row, _ in rows) != shard.names_sha256:
            raise _changed(f"{name} of {self.path} would have other pictures than were planned")
        failures = sum(isinstance(outcome, Failure) for _, outcome in rows)
        part = Part(run, len(rows), failures, shard.names_sha256)
        table = arrow_table(rows, embeds=run.command == "embed")
        try:
            self._put(name, _bytes_of(table.replace_schema_metadata({_KEY: json.dumps(asdict(part))})))
        except OSError as error:
            raise OutputError(f"{self.path}/{name} cannot be written: {error}.") from error
        return part

    def finish(self) -> None:
        """All shards are done."""
        self._put(_DONE, b"")

    def _listed(self) -> list[str]:
        exists = self._system.exists(self._folder)
        return cast("list[str]", self._system.ls(self._folder, detail=False)) if exists else []

    def _tidy(self, folder: Path) -> None:
        """The folder is there, without what an earlier run was about to write. Raises OutputError."""
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}.") from error
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()

    def _part(self, name: str) -> Part:
        import pyarrow  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415

        try:
            with cast(BinaryIO, self._system.open(f"{self._folder}/{name}", "rb")) as file:
                told = json.loads(pyarrow.parquet.read_schema(file).metadata[_KEY])
            run = told.pop("run")
            return Part(Run(**{**run, "sources": tuple(run["sources"])}), **told)
        except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise OutputError(f"{self.path}/{name} is no part of this version; expected one to resume with.") from error

    def _put(self, name: str, content: bytes) -> None:
        if not self._is_local:
            self._system.pipe_file(f"{self._folder}/{name}", content)  # a store shows it when it is whole
            return
        temporary = Path(self._folder, f".{name}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(temporary.with_name(name))
        sync_folder(temporary.parent)


def _changed(words: str) -> SourceError:
    return SourceError(f"The sources have changed: {words}; expected the same ones in the same shards.")


def name_of(number: int) -> str:
    """The file of a shard."""
    return f"part-{number:05}.parquet"


def _bytes_of(table: Any) -> bytes:
    import pyarrow  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue())
