"""Pillow's warnings while pictures are read, each with its picture. Knows nothing of reading them."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.data.scan import shown


class ImageWarnings(logging.Handler):
    """Collects Python's warnings and Pillow's log lines, each under the picture that its thread reads."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._reading = threading.local()
        self._found: dict[Path, str] = {}

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """This thread reads `path` now."""
        self._reading.path = path
        try:
            yield
        finally:
            self._reading.path = None

    def lines(self) -> list[str]:
        """One line for each picture, with its first warning, by path."""
        return [f"warning: {shown(path)}: {self._found[path]}" for path in sorted(self._found)]

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of Pillow's log."""
        self.note(record.getMessage())

    def note(self, message: str) -> None:
        """Keep a message of the picture that this thread reads, on one line."""
        path = getattr(self._reading, "path", None)
        if path is not None:
            self._found.setdefault(path, shown(" ".join(message.split())))


@contextmanager
def collected_warnings() -> Iterator[ImageWarnings]:
    """Inside, all warnings and Pillow's log lines of all threads are collected, and go nowhere else."""
    collected = ImageWarnings()
    log = logging.getLogger("PIL")
    propagates = log.propagate
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: collected.note(str(message))
        log.addHandler(collected)
        log.propagate = False
        try:
            yield collected
        finally:
            log.removeHandler(collected)
            log.propagate = propagates


@contextmanager
def silenced() -> Iterator[None]:
    """Inside, Pillow's warnings and log lines go nowhere: pictures that are read once more have told theirs."""
    log, nowhere = logging.getLogger("PIL"), logging.NullHandler()
    propagates = log.propagate
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        log.addHandler(nowhere)
        log.propagate = False
        try:
            yield
        finally:
            log.removeHandler(nowhere)
            log.propagate = propagates
