"""How much a folder holds, counted by all processes that write to it. Knows nothing of what it holds.

The numbers stand in one small file, which a process locks while it changes the folder. The lock goes with its process.
"""

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_FILE = ".usage"
_NUMBERS = struct.Struct("=qqd")
_FILE_MODE = 0o600
RECOUNT_S = 60.0


@dataclass
class Usage:
    """What a folder holds, as it was counted at `counted_at` (seconds since 1970) and has been written since."""

    images: int = 0
    bytes: int = 0
    counted_at: float = 0.0


@contextmanager
def locked(folder: Path, now: float, recount: Callable[[], Usage]) -> Iterator[Usage]:
    """The numbers, to be changed; no other process is here meanwhile. Counted anew where they are old, or from later.

    What is changed is written even where an error ends the statement. Raises: OSError.
    """
    descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        usage = _read(descriptor)
        if not 0 <= now - usage.counted_at < RECOUNT_S:
            usage = recount()
        try:
            yield usage
        finally:
            os.pwrite(descriptor, _NUMBERS.pack(usage.images, usage.bytes, usage.counted_at), 0)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Usage:
    content = os.pread(descriptor, _NUMBERS.size, 0)
    return Usage(*_NUMBERS.unpack(content)) if len(content) == _NUMBERS.size else Usage()
