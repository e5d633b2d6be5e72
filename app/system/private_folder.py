"""A folder of this user's alone for as long as a context lasts. Knows nothing of what is put there.

A process that is killed leaves its folder behind; the next one that needs such a folder removes it. The system drops a
dead process's lock, so that a folder without one is nobody's; a new one is not locked yet for a moment.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SURELY_LOCKED_S = 60.0


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A new folder, 0700, whose name begins with `prefix`; it and all in it go at the end. Raises OSError."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            _remove_if_left(left)
    with tempfile.TemporaryDirectory(prefix=prefix) as name, _locked(Path(name)):
        yield Path(name)


def _remove_if_left(folder: Path) -> None:
    """Raises OSError where it is in use, or has just gone."""
    stat = folder.lstat()
    if stat.st_uid == os.geteuid() and time.time() - stat.st_mtime > _SURELY_LOCKED_S:
        with _locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises OSError where somebody else has it locked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
