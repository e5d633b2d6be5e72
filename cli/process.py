"""The process before anything else of it: streams that were closed, and a stop signal to the first one of a container.

Knows nothing of what the process does, and imports little: what comes before it is not covered.
"""

import os
import signal
import sys
from types import FrameType

_FIRST = 1
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare() -> None:
    """Once, or again. What is not there is opened, and SIGTERM ends process 1, too, until somebody listens to it."""
    for number, (name, mode) in enumerate(_STREAMS):
        _open_nowhere(number)
        if getattr(sys, name) is None:  # as Python has it where the stream was closed
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    # To the first process of a container, the system delivers only signals that have a handler.
    if os.getpid() == _FIRST and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _open_nowhere(number: int) -> None:
    """Else the next file or connection would get this number, and whatever a library prints."""
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
