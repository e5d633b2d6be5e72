"""Locks on files and folders, which end with the process that holds them, however that ends.

One process at a time makes a file (`alone_with`); many use a folder (`hold`), which nobody removes meanwhile
(`unless_held`).
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of some network disks: then two may do the same at once


@contextmanager
def alone_with(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of the file at `path`, which is made where it is missing. `waiting`: called before a wait.

    Raises: OSError where the file cannot be opened.
    """
    while True:
        with path.open("ab") as file:
            _lock(file, waiting)
            if _is_at(file.fileno(), path):
                yield
                return


def hold(folder: Path) -> int | None:
    """Hold a folder, with others, as long as this process or one that was forked from it lives.

    Returns: what os.close() lets go of it; None where the folder is not there, or was removed just now.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    with suppress(OSError):  # of a disk without locks, where nothing is removed
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    if _is_at(descriptor, folder):
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def unless_held(folder: Path) -> Iterator[bool]:
    """Whether nobody holds the folder; nobody can while inside. Without locks somebody may. Raises OSError."""
    with _locked_at_once(folder, os.O_RDONLY | os.O_DIRECTORY) as is_locked:
        yield is_locked


@contextmanager
def alone_unless_busy(path: Path) -> Iterator[bool]:
    """As `alone_with`, without a wait: whether the lock could be had. Raises OSError."""
    with _locked_at_once(path, os.O_RDONLY | os.O_CREAT) as is_locked:
        yield is_locked


@contextmanager
def _locked_at_once(path: Path, flags: int) -> Iterator[bool]:
    descriptor = os.open(path, flags, 0o666)
    try:
        is_locked = False
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = _is_at(descriptor, path)
        yield is_locked
    finally:
        os.close(descriptor)


def _lock(file: IO[bytes], waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether nobody has moved or removed what was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
