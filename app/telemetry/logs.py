"""Log lines as plain text or JSON, on standard error. Knows nothing of what is logged."""

import ctypes
import io
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import PIL
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from app.telemetry.line_buffer import BufferedHandler
from app.telemetry.tracing import CURRENT, ids_of

_MOST_CHARACTERS = 4096  # of a message
_TRACEBACK_HEAD, _TRACEBACK_TAIL = 2048, 6144  # characters of a longer traceback: where it began, and what was raised
_NOT_LOGGED = (*RESERVED_ATTRS, "color_message")  # uvicorn's format for a terminal, without its values
_INDENT = "    "  # before a traceback's lines, so that no text in one passes for a line of the log


def configure(log_format: str, level: str) -> None:
    """Send every logger's lines to standard error, in `log_format` "text" or "json"; what cannot be written is lost."""
    _keep_nothing_back()
    handler = BufferedHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is odd in a client's file: as many as it likes to provoke
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)  # the same
    _silence_libtiff()


def name_worker(number: int, workers: int) -> None:
    """From now on this process's lines say which of so many workers it is: as JSON always, as text if of several."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Json):
            handler.setFormatter(_Json(number))
        elif isinstance(handler.formatter, _Text) and workers > 1:
            handler.setFormatter(_Text(number))


def printable(text: str, most: int) -> str:
    """On one line, its first `most` characters, with escapes for those that cannot be printed."""
    if len(text) > most:
        text = f"{text[:most]}... ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text.rstrip("\n"))


class _Text(logging.Formatter):
    """A message has one line of limited length, whatever clients wrote in it. A traceback follows on its own lines."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._process = "" if worker is None else f"[worker {worker} pid {os.getpid()}] "

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return self.line(record.created, record.levelname, record.name, record.message, {})

    def line(self, created: float, level: str, logger: str, message: str, fields: Mapping[str, Any]) -> str:
        """A message has its fields in it."""
        message = printable(message, _MOST_CHARACTERS)
        if (trace := CURRENT.get()) is not None:
            message += " trace_id={} span_id={}".format(*ids_of(trace))
        return f"{_time(created)} {level:7} {self._process}{logger} {message}"

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(stack_info)


class _Json(JsonFormatter):
    """A message has an end, and so has a traceback, which is one field."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__((), reserved_attrs=_NOT_LOGGED)
        self._worker = worker

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data.update(self._head(record.created, record.levelname, record.name, record.message))
        super().add_fields(log_data, record, message_dict)

    def line(self, created: float, level: str, logger: str, message: str, fields: Mapping[str, Any]) -> str:
        return self.jsonify_log_record({**self._head(created, level, logger, message), **fields})

    def _head(self, created: float, level: str, logger: str, message: str) -> dict[str, Any]:
        head: dict[str, Any] = {"timestamp": _time(created), "worker": self._worker}
        if (trace := CURRENT.get()) is not None:
            head["trace_id"], head["span_id"] = ids_of(trace)
        message = printable(message, _MOST_CHARACTERS)
        return head | {"level": level, "logger": logger, "pid": os.getpid(), "message": message}

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _cut(str(super().formatException(ei)))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _cut(stack_info)


def _time(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _cut(traceback: str) -> str:
    if len(traceback) <= _TRACEBACK_HEAD + _TRACEBACK_TAIL:
        return traceback
    left_out = len(traceback) - _TRACEBACK_HEAD - _TRACEBACK_TAIL
    return f"{traceback[:_TRACEBACK_HEAD]}\n... ({left_out} characters)\n{traceback[-_TRACEBACK_TAIL:]}"


def _indented(traceback: str) -> str:
    return "\n".join(_INDENT + printable(line, _MOST_CHARACTERS) for line in _cut(traceback).split("\n"))


def _keep_nothing_back() -> None:
    """Write each line to standard error at once, as PYTHONUNBUFFERED does.

    Of a line that a full disk refuses, Python's buffer keeps the bytes: from then on every flush raises, also the one
    before a worker is forked and the one at the end of the process, whose exit code then is 120.
    """
    if isinstance(sys.stderr, io.TextIOWrapper) and isinstance(sys.stderr.buffer, io.BufferedWriter):
        with suppress(OSError):
            sys.stderr.flush()
        raw = io.FileIO(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, sys.stderr.errors, write_through=True)


def _silence_libtiff() -> None:
    """It writes a line to standard error for each line of a broken fax, past any logger: 9 MB for a file of 300 KB.

    What it finds wrong is an error of Pillow's all the same. A Pillow from no wheel has its libtiff elsewhere.
    """
    for path in Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*"):
        set_handler = ctypes.CDLL(str(path)).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)
