"""Which bundles a path names, whether one is still what it was, and how it is opened. Knows nothing of classifying."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from app.engine.engine import Engine, EngineOptions, find_graphs, open_engine
from app.engine.session import ONNX_RUNTIME, Runtime
from app.engine.sessions import Sessions
from app.errors import EngineError
from app.serving.cards import Card, read_card
from app.serving.signatures import verified

log = logging.getLogger("mixer.bundles")

State = tuple[tuple[str, int, int, int, int], ...]


def find_bundles(path: Path, model_name: str = "") -> dict[str, Path]:
    """The bundle at `path` under its own name; else those in the folders of `path` under theirs, in their order.

    Folders whose names begin with a dot do not count, nor do those that `passed_over` names. `model_name`: what the
    bundle at `path` is called instead.

    Raises: EngineError where there is none, where one cannot be read, or has no name to ask for it by, or where there
    are several for one name.
    """
    if not is_one(path):
        several = {entry.name: entry for entry in _entries(path) if entry.is_dir() and is_one(entry)}
        if several and model_name:
            raise EngineError(f"MIXER_MODEL_NAME is {model_name}; {path} is a folder of bundles, which have their own.")
        if several:
            return {_expect_name(name): folder for name, folder in several.items()}
    find_graphs(path)
    name = path.absolute().stem if path.is_file() else path.absolute().name
    return {_expect_name(model_name or name): path}


def passed_over(path: Path) -> list[str]:
    """Of a folder of bundles, why each thing in it that is no bundle is none. Raises EngineError, as find_bundles."""
    if is_one(path):
        return []
    return [reason for entry in _entries(path) if (reason := _why_passed_over(entry)) is not None]


def log_passed_over(path: Path) -> None:
    """Log one line for each thing that `passed_over` names."""
    for reason in passed_over(path):
        log.warning("passed over: %s", reason)


def is_one(path: Path) -> bool:
    """Whether `path` is a bundle itself: a graph, or a folder with one."""
    try:
        find_graphs(path)
    except EngineError:
        return False
    return True


def _entries(path: Path) -> list[Path]:
    """Of a folder, those that are not hidden, by name. Raises EngineError where it, or a folder in it, is not read."""
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith(".")) if path.is_dir() else []
        for entry in entries:
            if entry.is_dir():
                os.scandir(entry).close()
    except OSError as error:
        raise EngineError(f"The bundle {error.filename or path} cannot be read: {error.strerror}.") from error
    return entries


def _why_passed_over(entry: Path) -> str | None:
    if not entry.is_dir():
        return f"{entry} is no folder; expected bundles, each a folder."
    try:
        find_graphs(entry)
    except EngineError as error:
        return str(error)
    return None


def _expect_name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise EngineError(f"The name of the bundle {name!a} is not UTF-8; expected a name that is.") from None
    return name


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
    card: Card | None = None


def open_bundle(options: EngineOptions, bundle: Path, runtime: Runtime = ONNX_RUNTIME) -> Opened:
    """Open the bundle in place of that of the options, through `runtime`. Takes long: not for the event loop.

    Where the options have a key, nothing of a bundle is read before it is verified.

    Raises: EngineError, BadSettings; OSError where the bundle goes meanwhile.
    """
    state, sessions = state_of(bundle), Sessions(runtime)
    with verified(bundle, options.bundle_key) as folder:
        engine = open_engine(replace(options, bundle=folder), sessions.runtime)
        return Opened(state, engine, sessions, read_card(folder))


def read_card_again(key: Path | None, bundle: Path) -> Card | None:
    """The card of a bundle whose graphs are as they were; all of it is verified anew, where there is a key.

    Raises: EngineError, BadSettings.
    """
    with verified(bundle, key) as folder:
        return read_card(folder)


def open_all(open_one: Callable[[Path], Opened], bundles: Sequence[Path], at_once: int) -> Iterator[Opened]:
    """What `open_one` makes of each, in their order; up to `at_once` are opened at the same time.

    Raises: EngineError of the first that cannot be opened; what has not begun by then does not begin.
    """
    open_one = partial(_expect_opened, open_one)
    if min(at_once, len(bundles)) <= 1:
        yield from map(open_one, bundles)
        return
    pool = ThreadPoolExecutor(at_once, "open")
    try:
        yield from pool.map(open_one, bundles)
    finally:
        pool.shutdown(cancel_futures=True)


def _expect_opened(open_one: Callable[[Path], Opened], bundle: Path) -> Opened:
    try:
        return open_one(bundle)
    except OSError as error:
        raise EngineError(
            f"The bundle {bundle} went or changed while it was opened: {error.strerror}; expected it to stay."
        ) from error
