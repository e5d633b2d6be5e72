"""Log lines on their way to a stream: most at once, those of requests with others that come within a moment.

Knows nothing of what a line says. Lines of one process keep their order. Processes may share a pipe: what is written
at once is no longer than what a pipe takes whole, or is a single line.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from select import PIPE_BUF
from typing import Any, Protocol, TextIO, runtime_checkable

_LONGEST_WAIT_S = 0.01  # of a line, in an event loop that does not stand still


@runtime_checkable
class LineFormatter(Protocol):
    """What a formatter must have so that a line can be made without a record."""

    def line(self, created: float, level: str, logger: str, message: str, fields: Mapping[str, Any]) -> str:
        """What `format` makes of a record with these values and these extra fields."""


class LineBuffer:
    """Collects lines, PIPE_BUF bytes at most, and writes them at once. What cannot be written is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._bytes = 0

    def write(self, line: str) -> None:
        """Keep a line; write those before it where there is no room for all."""
        length = len(line) if line.isascii() else len(line.encode(errors="backslashreplace"))
        if self._bytes + length > PIPE_BUF:
            self.flush()
        self._lines.append(line)
        self._bytes += length

    def flush(self) -> None:
        """Write what there is."""
        lines, self._lines, self._bytes = self._lines, [], 0
        if lines:
            with suppress(OSError, ValueError):  # a full disk; a stream that is closed
                self._stream.write("".join(lines))


class BufferedHandler(logging.StreamHandler[LineBuffer]):
    """Writes each record at once, and what waits before it. A full pipe holds up who writes, as without a buffer."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(LineBuffer(stream))
        self.line: Callable[[float, str, str, str, Mapping[str, Any]], str] | None = None  # of a LineFormatter
        self._loop: asyncio.AbstractEventLoop | None = None  # that has been asked to write what waits

    def setFormatter(self, fmt: logging.Formatter | None) -> None:  # noqa: N802
        """With a LineFormatter, lines can be made without a record."""
        super().setFormatter(fmt)
        self.line = fmt.line if isinstance(fmt, LineFormatter) else None

    def write_soon(self, line: str) -> None:
        """A line that waits for others, where an event loop runs here that will write it."""
        self.acquire()
        try:
            self.stream.write(line + self.terminator)
            loop = asyncio.get_running_loop()
            if loop is not self._loop:
                self._loop = loop
                loop.call_later(_LONGEST_WAIT_S, self._flush_in, loop)
        except RuntimeError:  # there is none
            self.flush()
        finally:
            self.release()

    def _flush_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop:
            self._loop = None
        self.flush()


def write_info(log: logging.Logger, message: str, fields: Mapping[str, Any]) -> bool:
    """Write a line of level INFO soon, without a record. Returns whether it did.

    It does not where somebody else would see the record (another handler, a filter, a factory of records), or where no
    line can be made of these.
    """
    root = logging.getLogger()
    if log.parent is not root or log.handlers or log.filters or not log.propagate or len(root.handlers) != 1:
        return False
    handler = root.handlers[0]
    if type(handler) is not BufferedHandler or handler.line is None or handler.filters or handler.level > logging.INFO:
        return False
    if logging.getLogRecordFactory() is not logging.LogRecord:
        return False
    try:
        line = handler.line(time.time(), "INFO", log.name, message, fields)
    except Exception:  # noqa: BLE001 -- logging tells what is wrong with a record, and goes on
        return False
    handler.write_soon(line)
    return True
