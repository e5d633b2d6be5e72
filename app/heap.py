"""The C library's heap: what a closed engine leaves free in it goes back to the system. Knows nothing of engines."""

import ctypes
import threading
from contextlib import suppress


def trim_soon() -> threading.Thread:
    """In a thread of its own: it takes milliseconds that the event loop has no time for."""
    thread = threading.Thread(target=trim, name="trim", daemon=True)
    thread.start()
    return thread


def trim() -> None:
    """glibc keeps what is free between what is not; other C libraries have no such call, and need none."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
