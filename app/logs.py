"""Log lines as plain text or JSON, on standard error. Knows nothing of what is logged."""

import logging
import sys
import warnings

from pythonjsonlogger.json import JsonFormatter

_TEXT = "%(asctime)s %(levelname)-7s %(name)s %(message)s"


def configure(log_format: str, level: str) -> None:
    """Send every logger's lines to standard error, in `log_format` "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        formatter: logging.Formatter = JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger"},
        )
    else:
        formatter = logging.Formatter(_TEXT)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is odd in a client's file: as many as it likes to provoke
