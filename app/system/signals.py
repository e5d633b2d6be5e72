"""Signals at the right time: SIGTERM and SIGINT before the server ends, SIGHUP once somebody listens.

Knows nothing of uvicorn, or of what they are for.
"""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT)
_SAME_S = 1.0  # an init system signals every process of a service, and their supervisor passes on its own


def exit_when_told(*, once: bool) -> None:
    """From now on, a stop signal raises SystemExit(0) in the main thread; where `once`, only the first does.

    A second SystemExit would be raised inside the handling of the first, and the exit code be lost. The handler stays,
    as Python raises OSError for a signal that arrives while it is replaced by SIG_IGN.
    """
    told = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if once and told:
            return
        told = True
        sys.exit(0)

    for number in STOPPING:
        signal.signal(number, end)


@contextmanager
def first_telling(listener: Callable[[], object]) -> Iterator[None]:
    """While inside, a stop signal calls `listener`, and then whatever handled it before."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    previous = {number: signal.getsignal(number) for number in STOPPING}

    def handle(number: int, frame: FrameType | None) -> None:
        listener()
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in STOPPING:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def put_off(seconds: float, notice: Callable[[], object]) -> Iterator[None]:
    """While inside, the first stop signal calls `notice`, and what handled it before `seconds` later.

    A second signal does not wait; the first one that comes again within a second is none. All is called in the event
    loop that runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in STOPPING}
    waiting: list[tuple[asyncio.TimerHandle, int, float]] = []

    def pass_on(number: int) -> None:
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, None)

    def begin(number: int, came: float) -> None:
        if not waiting:
            waiting.append((loop.call_later(seconds, pass_on, number), number, came))
            notice()
            return
        delayed, first, since = waiting[0]
        if number != first or came - since >= _SAME_S:
            delayed.cancel()
            pass_on(number)

    for number in STOPPING:
        signal.signal(number, lambda number, _: loop.call_soon_threadsafe(begin, number, loop.time()))
    try:
        yield
    finally:
        for delayed, *_ in waiting:
            delayed.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Noted:
    """A handler that only notes that its signal came."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True


@contextmanager
def hang_ups_noted() -> Iterator[None]:
    """While inside, SIGHUP waits for `hearing_hang_ups`, and does not end a process that does not listen any more."""
    before = signal.signal(signal.SIGHUP, _Noted())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def hearing_hang_ups(listener: Callable[[], object]) -> Iterator[None]:
    """While inside, SIGHUP calls `listener`; at once where one was noted before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda *_: listener())
    if isinstance(before, _Noted) and before.came:
        listener()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def held(watched: Set[signal.Signals]) -> Iterator[None]:
    """What is watched waits until it is asked for, here and in a child until it lets it through."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
