"""SOURCE... of the command line -> pictures, lazily and in the same order every time. Knows nothing of models."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from cli.bulk.archives import TAR_SUFFIXES, ZIP_SUFFIXES, tar_entries, zip_entries
from cli.bulk.entries import Entry, LocalFile, RemoteFile, read_standard_input, shown
from cli.bulk.outcomes import Failure
from cli.bulk.stores import Stores, is_of_this_process, is_url
from cli.bulk.tables import TABLE_SUFFIXES, table_entries
from cli.bulk.trees import LocalTree, RemoteTree, Tree, is_pattern, matching, pictures_below

_CONTAINER_SUFFIXES = (*TAR_SUFFIXES, *ZIP_SUFFIXES, *TABLE_SUFFIXES)
STANDARD_INPUT = "-"
_IN_SOURCE = "::"
_MISSING = Failure("missing_file", "It does not exist; expected a picture, a folder, an archive, a pattern or -.")

Group = tuple[str | None, Iterator[Entry]]


class Sources:
    """What the user named. `most`: bytes that a picture may have."""

    def __init__(self, sources: Iterable[str], most: int) -> None:
        self.names = tuple(sources)
        self._most = most
        self._stores = Stores(most)

    def entries(self) -> Iterator[Entry]:
        """Every picture of every source. Raises SourceError, MixerError where one needs what is not installed."""
        for _, entries in self.groups():
            yield from entries

    def groups(self) -> Iterator[Group]:
        """The same, by what they are in: an archive or a table, as a source of its own, or None for files."""
        for source in self.names:
            yield from self._of(source)

    def count(self) -> int | None:
        """How many pictures there are; None where all of a source would have to be read for that."""
        places = [_split(source)[0] for source in self.names]
        if any(is_url(place) or place.lower().endswith(TAR_SUFFIXES) or place == STANDARD_INPUT for place in places):
            return None
        return sum(1 for _ in self.entries())

    def _of(self, source: str) -> Iterator[Group]:
        if source == STANDARD_INPUT:
            yield None, iter([Entry(source, partial(read_standard_input, self._most))])
            return
        place, column = _split(source)
        tree: Tree = RemoteTree(self._stores.of(place)) if is_url(place) else LocalTree()
        kind = tree.kind(place)
        if kind is None and is_pattern(place):
            yield from self._matching(tree, place, column)
        elif kind is None:
            yield None, iter([Entry(shown(source), _MISSING)])
        elif kind == "folder":
            yield None, self._below(tree, place)
        else:
            yield self._of_file(place, None, column)

    def _matching(self, tree: Tree, pattern: str, column: str | None) -> Iterator[Group]:
        found = False
        for child in matching(tree, pattern):
            found = True
            if child.is_folder:
                yield None, self._below(tree, child.path)
            else:
                yield self._of_file(child.path, child.size, column)
        if not found:
            yield None, iter([Entry(shown(pattern), Failure("missing_file", "Nothing matches it; expected pictures."))])

    def _below(self, tree: Tree, folder: str) -> Iterator[Entry]:
        found = False
        for entry in pictures_below(tree, folder):
            found = True
            yield self._here(entry)
        if not found:
            yield Entry(shown(folder), Failure("no_pictures", "It holds no pictures."))

    def _of_file(self, path: str, size: int | None, column: str | None) -> Group:
        name, lower, open_it = shown(path), path.lower(), partial(self._open, path)
        if lower.endswith(TAR_SUFFIXES):
            return path, tar_entries(name, open_it, self._most, seekable=not is_url(path))
        if lower.endswith(ZIP_SUFFIXES):
            return path, zip_entries(name, open_it, self._most)
        if lower.endswith(TABLE_SUFFIXES):
            source = path if column is None else f"{path}{_IN_SOURCE}{column}"
            return source, table_entries(name, open_it, self._most, column)
        return None, iter([self._here(Entry(name, RemoteFile(path, size) if is_url(path) else LocalFile(path)))])

    def _here(self, entry: Entry) -> Entry:
        """With a function that reads it, where no other process can."""
        if isinstance(entry.content, RemoteFile) and is_of_this_process(entry.content.url):
            url, size = entry.content
            found = self._stores.read({url: size})[url]
            return Entry(entry.name, found)
        return entry

    def _open(self, path: str) -> BinaryIO:
        return self._stores.of(path).open(path) if is_url(path) else Path(path).open("rb")


def is_plain(source: str) -> bool:
    """Whether it is a picture, a folder or standard input of this machine, or nothing."""
    place = _split(source)[0]
    if is_url(place) or place.lower().endswith(_CONTAINER_SUFFIXES):
        return False
    return LocalTree().kind(place) is not None or not is_pattern(place)


def _split(source: str) -> tuple[str, str | None]:
    """The place, and the column of a table that stands behind it."""
    place, mark, column = source.rpartition(_IN_SOURCE)
    if mark and place.lower().endswith(TABLE_SUFFIXES):
        return place, column
    return source, None
