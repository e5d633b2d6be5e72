"""Log lines on their way to a stream: most at once, those of an event loop's requests together with their neighbors.

Knows nothing of what a line says. Lines of one process keep their order. Several processes may share a pipe: what is
written at once is no longer than what a pipe takes whole, or is a single line.
"""

import asyncio
import logging
import select
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TextIO, runtime_checkable

_LONGEST_WAIT_S = 0.01  # of a line in an event loop that does not stand still


@runtime_checkable
class LineFormatter(Protocol):
    """What a formatter must have so that a line can be made without a record."""

    def line(self, created: float, level: str, logger: str, message: str, fields: Mapping[str, Any]) -> str:
        """The same as `format` makes of a record with these values and these extra fields."""


class BufferedHandler(logging.Handler):
    """Writes each record at once, and before it whatever waits. What cannot be written is lost.

    A full pipe holds the writer up, and with it the event loop: no more than one write's lines wait at any time.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.line: Callable[[float, str, str, str, Mapping[str, Any]], str] | None = None  # of its formatter
        self._stream = stream
        self._lines: list[str] = []
        self._bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # that has been asked to write what waits

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802
        """With a LineFormatter, lines can be made without a record."""
        super().setFormatter(fmt)
        self.line = fmt.line if isinstance(fmt, LineFormatter) else None

    def emit(self, record: logging.LogRecord) -> None:
        """One line, or several where it has a traceback."""
        try:
            line = self.format(record)
        except Exception:  # as every handler of logging does: who logs is no worse for it
            self.handleError(record)
            return
        self._add(line)
        self.flush()

    def write_soon(self, line: str) -> None:
        """A line that may wait for others, where an event loop runs here that will write it."""
        with self.lock:
            self._add(line)
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
                return
            if loop is not self._loop:
                self._loop = loop
                loop.call_later(_LONGEST_WAIT_S, self._flush_in, loop)

    def flush(self) -> None:
        """Write whatever waits."""
        with self.lock:
            lines, self._lines, self._bytes = self._lines, [], 0
            if lines:
                with suppress(OSError):
                    self._stream.write("".join(lines))

    def _add(self, line: str) -> None:
        line += "\n"
        length = len(line) if line.isascii() else len(line.encode(errors="backslashreplace"))
        if self._bytes + length > select.PIPE_BUF:
            self.flush()
        self._lines.append(line)
        self._bytes += length

    def _flush_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            self._loop = None
        self.flush()


def write_info(log: logging.Logger, message: str, fields: Mapping[str, Any]) -> bool:
    """Write a line of level INFO soon, without a record. Returns whether it did.

    It does not where anybody else would see the record: another handler, a filter, a factory of records.
    """
    root = logging.getLogger()
    if log.parent is not root or log.handlers or log.filters or not log.propagate or len(root.handlers) != 1:
        return False
    handler = root.handlers[0]
    if type(handler) is not BufferedHandler or handler.line is None or handler.filters or handler.level > logging.INFO:
        return False
    if logging.getLogRecordFactory() is not logging.LogRecord:
        return False
    handler.write_soon(handler.line(time.time(), "INFO", log.name, message, fields))
    return True
