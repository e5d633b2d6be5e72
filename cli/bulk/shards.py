"""Sources cut into shards that any process can do alone, numbered in the order of the sources.

Files are named in their shard. Rows of an archive or a table are told by their place in it, and read by who does the
shard. Knows nothing of models, or of where rows go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from cli.bulk.entries import Entry, Ready, names_digest
from cli.bulk.sources import STANDARD_INPUT, Sources
from cli.bulk.stores import SourceError


class Slice(NamedTuple):
    """The entries `start` to `stop` of a container, which is named as a source is."""

    source: str
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """So many pictures. names_sha256: of their names, as in the manifest of an output."""

    number: int
    count: int
    names_sha256: str
    pieces: tuple[Ready | Slice, ...]

    def entries(self, most: int) -> Iterator[Entry]:
        """Its pictures. `most`: bytes that one may have. Raises SourceError, MixerError."""
        for piece in self.pieces:
            if isinstance(piece, Slice):
                yield from islice(Sources([piece.source], most).entries(), piece.start, piece.stop)
            else:
                yield Entry(*piece)


def shards_of(sources: Sources, size: int) -> Iterator[Shard]:
    """All pictures of the sources, `size` to a shard. Raises SourceError, MixerError.

    No picture is read, but those of memory://, which only this process sees: their shard has their bytes.
    """
    if STANDARD_INPUT in sources.names:
        raise SourceError("- is standard input, which other processes do not see; expected files, folders or URLs.")
    placed = ((entry.name, piece) for source, entries in sources.groups() for entry, piece in _placed(source, entries))
    number = 0
    while together := list(islice(placed, size)):
        names = names_digest(name for name, _ in together)
        yield Shard(number, len(together), names, tuple(_joined(piece for _, piece in together)))
        number += 1


def _placed(source: str | None, entries: Iterator[Entry]) -> Iterator[tuple[Entry, Ready | Slice]]:
    for at, entry in enumerate(entries):
        if source is not None:
            yield entry, Slice(source, at, at + 1)
        else:
            assert not callable(entry.content)  # noqa: S101 -- only containers' and standard input's are functions
            yield entry, Ready(entry.name, entry.content)


def _joined(pieces: Iterator[Ready | Slice]) -> Iterator[Ready | Slice]:
    """Slices that follow each other as one."""
    last: Slice | None = None
    for piece in pieces:
        if last is not None and isinstance(piece, Slice) and (piece.source, piece.start) == (last.source, last.stop):
            last = last._replace(stop=piece.stop)
            continue
        if last is not None:
            yield last
        last = piece if isinstance(piece, Slice) else None
        if last is None:
            yield piece
    if last is not None:
        yield last
