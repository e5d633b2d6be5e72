"""SIGINT and SIGTERM in a training run: the first is noted and waits for the step, a second ends at once.

Knows nothing of training, and loads no torch: signals are handled from the first line of the command.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_NOTE = b"\nstopping after this step, which is saved; once more: at once\n"
_STDERR = 2


class StopNow(KeyboardInterrupt):
    """A stop signal came outside `waiting`, or a second one came."""


class StopSignals:
    """The stop signal that came, if any. Outside `waiting` it raises StopNow where the program stands."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._is_waiting = False

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in a shell; 130 for SIGINT."""
        return 128 + (self.number or signal.SIGINT)

    def came(self) -> bool:
        """Whether to stop."""
        return self.number is not None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While inside, the first signal is only noted: the caller polls `came` where it can stop."""
        self._is_waiting = True
        try:
            yield
        finally:
            self._is_waiting = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        is_first, self.number = self.number is None, number
        if not (is_first and self._is_waiting):
            raise StopNow
        os.write(_STDERR, _NOTE)  # a buffered write may be under way


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """While inside, stop signals are noted. Without effect in other threads than the main one."""
    signals = StopSignals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.note) for number in _STOPPING}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
