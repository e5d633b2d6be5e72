"""One process at a time: a lock on a file, which ends with the process that holds it, however that ends."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
            if _is_still_at(file, path):
                yield
                return


def _lock(file: IO[bytes], waiting: Callable[[], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _is_still_at(file: IO[bytes], path: Path) -> bool:
    """Whether nobody has moved or removed the file meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
