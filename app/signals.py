"""SIGTERM and SIGINT, heard before the server ends: the service turns not-ready at once. Knows nothing of uvicorn."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def first_telling(listener: Callable[[], object]) -> Iterator[None]:
    """While inside, a stop signal calls `listener`, and then whatever handled it before."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    previous = {number: signal.getsignal(number) for number in _STOPPING}

    def handle(number: int, frame: FrameType | None) -> None:
        listener()
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in _STOPPING:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
