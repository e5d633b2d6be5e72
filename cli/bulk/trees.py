"""Folders of this machine and of object stores, walked in one order. Knows nothing of archives or pictures' bytes.

A folder's names are listed and sorted when its turn comes, and let go of one by one: never a list of all paths.
"""

import os
import re
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from cli.bulk.entries import Entry, LocalFile, RemoteFile, shown
from cli.bulk.outcomes import UNREADABLE, Failure
from cli.bulk.stores import SourceError, Store
from model.data.scan import IMAGE_SUFFIXES, is_of_system, look
from model.data.scan import shown as on_one_line

_ANY_DEPTH = "**"
_MAGIC = re.compile(r"[*?[]")


class Child(NamedTuple):
    """What a folder holds. `size`: bytes of a file in a store."""

    path: str
    name: str
    is_folder: bool
    size: int | None = None


class Tree(Protocol):
    """A file system to walk."""

    def children(self, folder: str) -> Iterator[Child]:
        """What is in a folder, by name. Raises OSError at once where it cannot be listed."""
        ...

    def kind(self, path: str) -> Literal["file", "folder"] | None:
        """What is there; None: nothing."""
        ...

    def picture(self, child: Child) -> Entry | None:
        """A file as an entry, with a failure where it is a picture that cannot be read; None for any other file."""
        ...


class LocalTree:
    """The files of this machine. Links to folders are not followed, so that there are no cycles."""

    def children(self, folder: str) -> Iterator[Child]:
        """What is in a folder, by name. Raises OSError at once where it cannot be listed."""
        with os.scandir(folder) as listing:
            names = [f"{one.name}/" if one.is_dir(follow_symlinks=False) else one.name for one in listing]
        names.sort(key=lambda name: name.rstrip("/"), reverse=True)
        return self._each(folder, names)

    def _each(self, folder: str, names: list[str]) -> Iterator[Child]:
        while names:
            name = names.pop()
            plain = name.rstrip("/")
            yield Child(os.path.join(folder, plain), plain, name.endswith("/"))  # noqa: PTH118 -- for each of a million

    def kind(self, path: str) -> Literal["file", "folder"] | None:
        """What is there; None: nothing."""
        if os.path.isdir(path):  # noqa: PTH112 -- no error for a name that is too long
            return "folder"
        return "file" if os.path.exists(path) else None  # noqa: PTH110

    def picture(self, child: Child) -> Entry | None:
        """A file as an entry, with a failure where it is a picture that cannot be read; None for any other file."""
        name = shown(child.path)
        if has_image_suffix(child.name):
            return Entry(name, LocalFile(child.path))
        path = Path(child.path)
        found = look(path)
        if found.unreadable:
            reason = found.unreadable[0][1].removeprefix(on_one_line(path)).lstrip()
            return Entry(name, Failure(UNREADABLE, f"It {reason}"))
        return Entry(name, LocalFile(child.path)) if found.images else None


class RemoteTree:
    """The files of a store. What is a picture there is told by its suffix alone."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def children(self, folder: str) -> Iterator[Child]:
        """What is in a folder, by name. Raises SourceError."""
        found = [self._child(one) for one in self._store.list(folder)]
        found = [child for child in found if child.name and child.path.rstrip("/") != folder.rstrip("/")]
        found.sort(key=lambda child: child.name, reverse=True)
        return self._each(found)

    def _each(self, found: list[Child]) -> Iterator[Child]:
        while found:
            yield found.pop()

    def _child(self, one: dict[str, Any]) -> Child:
        url = self._store.url_of(one["name"]).rstrip("/")
        return Child(url, url.rpartition("/")[2], one["type"] == "directory", one.get("size"))

    def kind(self, path: str) -> Literal["file", "folder"] | None:
        """What is there; None: nothing."""
        return self._store.kind(path)

    def picture(self, child: Child) -> Entry | None:
        """A file as an entry; None for one without the suffix of a picture."""
        return Entry(child.path, RemoteFile(child.path, child.size)) if has_image_suffix(child.name) else None


def has_image_suffix(name: str) -> bool:
    """Whether a file of this name is taken for a picture without a look at its bytes."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 -- for each of a million


def pictures_below(tree: Tree, folder: str) -> Iterator[Entry]:
    """Every picture below a folder; files and folders of the system's are passed over."""
    try:
        children = tree.children(folder)
    except OSError as error:
        yield Entry(shown(folder), Failure(UNREADABLE, f"It cannot be read: {error.strerror}."))
        return
    for child in children:
        if is_of_system(child.name):
            continue
        if child.is_folder:
            yield from pictures_below(tree, child.path)
        elif (entry := tree.picture(child)) is not None:
            yield entry


def is_pattern(path: str) -> bool:
    """Whether a path has one of * ? [ in it."""
    return _MAGIC.search(path) is not None


def matching(tree: Tree, pattern: str) -> Iterator[Child]:
    """What a pattern names: * ? [] within a name, ** for any folders. Hidden names have to be named.

    What is below a folder that it names is not named once more. Raises SourceError for ** more than once.
    """
    parts = pattern.split("/")
    if parts.count(_ANY_DEPTH) > 1:
        raise SourceError(f"{pattern} has ** more than once, and would name pictures twice; expected it once.")
    fixed = next(at for at, part in enumerate(parts) if is_pattern(part))
    root = "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else ".")
    for child in _matching(tree, root, parts[fixed:], set()):
        yield child._replace(path=child.path.removeprefix("./")) if root == "." else child


def _matching(tree: Tree, folder: str, parts: list[str], named: set[str]) -> Iterator[Child]:
    """named: folders that were, which grows."""
    first, rest = parts[0], parts[1:]
    if first == _ANY_DEPTH:
        yield from _matching(tree, folder, rest or ["*"], named)
        for child in _children(tree, folder):
            if child.is_folder and not is_of_system(child.name) and child.path not in named:
                yield from _matching(tree, child.path, parts, named)
        return
    expected = re.compile(translate(first))
    for child in _children(tree, folder):
        if not expected.match(child.name) or (child.name.startswith(".") and not first.startswith(".")):
            continue
        if not rest:
            if child.is_folder:
                named.add(child.path)
            yield child
        elif child.is_folder:
            yield from _matching(tree, child.path, rest, named)


def _children(tree: Tree, folder: str) -> Iterator[Child]:
    try:
        return tree.children(folder)
    except OSError:
        return iter(())
