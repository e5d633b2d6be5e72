"""Which bundles a path names, whether one is still what it was, and how it is opened. Knows nothing of classifying."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from app.engine import Engine, EngineOptions, find_graphs, open_engine
from app.errors import EngineError
from app.sessions import Sessions

State = tuple[tuple[str, int, int, int, int], ...]


def find_bundles(path: Path) -> dict[str, Path]:
    """The bundle at `path` under its own name; else those in the folders of `path` under theirs, in their order.

    Folders whose names begin with a dot do not count, nor do those without a graph.

    Raises: EngineError where there is none.
    """
    if not is_one(path) and path.is_dir():
        folders = sorted(folder for folder in path.iterdir() if not folder.name.startswith("."))
        several = {folder.name: folder for folder in folders if folder.is_dir() and is_one(folder)}
        if several:
            return several
    find_graphs(path)
    return {path.absolute().stem if path.is_file() else path.absolute().name: path}


def is_one(path: Path) -> bool:
    """Whether `path` is a bundle itself: a graph, or a folder with one."""
    try:
        find_graphs(path)
    except EngineError:
        return False
    return True


def state_of(bundle: Path) -> State:
    """Of each graph what changes when it is written or replaced: name, inode, bytes, times of change.

    Raises: EngineError where there is none; OSError where one has just gone.
    """
    stats = ((path.name, path.stat()) for path in find_graphs(bundle).values())
    return tuple((name, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns) for name, of in stats)


class Opened(NamedTuple):
    """A bundle whose engine has proved itself, and what it looked like just before."""

    state: State
    engine: Engine
    sessions: Sessions


def open_bundle(options: EngineOptions, bundle: Path) -> Opened:
    """Open the bundle in place of that of the options. Takes long: not for the event loop.

    Raises: EngineError; OSError where the bundle goes meanwhile.
    """
    state, sessions = state_of(bundle), Sessions()
    return Opened(state, open_engine(replace(options, bundle=bundle), sessions.runtime), sessions)
