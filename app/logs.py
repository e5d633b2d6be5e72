"""Log lines as plain text or JSON, on standard error. Knows nothing of what is logged."""

import ctypes
import io
import logging
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL
from pythonjsonlogger.json import JsonFormatter

_MOST_CHARACTERS = 4096  # of a message
_TEXT = "%(asctime)s %(levelname)-7s %(name)s %(message)s"


def configure(log_format: str, level: str) -> None:
    """Send every logger's lines to standard error, in `log_format` "text" or "json"; what cannot be written is lost."""
    _keep_nothing_back()
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        formatter: logging.Formatter = _Json(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
        )
    else:
        formatter = _Text(_TEXT)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is odd in a client's file: as many as it likes to provoke
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)  # the same
    _silence_libtiff()


class _Text(logging.Formatter):
    """A message has one line and an end, whoever wrote parts of it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = _one_line(record.message)
        return super().formatMessage(record)


class _Json(JsonFormatter):
    """A message has an end."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        record.message = _one_line(record.message)
        super().add_fields(log_data, record, message_dict)


def _one_line(message: str) -> str:
    if len(message) > _MOST_CHARACTERS:
        message = f"{message[:_MOST_CHARACTERS]}... ({len(message)} characters)"
    if message.isprintable():
        return message
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in message.rstrip("\n"))


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
