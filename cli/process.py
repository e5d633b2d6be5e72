"""Prepares the process: opens closed standard streams, and handles SIGTERM as a container's first process.

Knows nothing of what the process does, and imports little: it protects only what comes after it.
"""

import os
import signal
import sys
from types import FrameType

_FIRST = 1
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare() -> None:
    """Open missing streams, and let SIGTERM end process 1 too, until another handler is set. May be called again."""
    for number, (name, mode) in enumerate(_STREAMS):
        _open_nowhere(number)
        if getattr(sys, name) is None:  # Python's value for a closed stream
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    # The kernel delivers to process 1 only signals that have a handler.
    if os.getpid() == _FIRST and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _open_nowhere(number: int) -> None:
    """Open a closed descriptor on /dev/null; else the next file gets its number and a library's output."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


def _end(number: int, frame: FrameType | None) -> None:
    """As the system would end any other process."""
    os._exit(128 + number)
