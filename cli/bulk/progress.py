"""How far a run over many pictures has come, on standard error. Knows nothing of what is done with them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cli.terminal import bar, console

_EVERY_S = 0.2
_LINE_EVERY_S = 30.0


class Progress(Protocol):
    """Hears how many pictures are done."""

    def __call__(self, done: int, failures: int) -> None:
        """So many are, of which so many failed."""
        ...


@contextmanager
def progress(what: str, done: int, count: Callable[[], int | None]) -> Iterator[Progress]:
    """A bar on a terminal, else a line twice a minute. `done`: by earlier runs. `count`: of all, if known."""
    if console.is_terminal:
        with _bar(what, done, count) as shown:
            yield shown
    else:
        yield Lines(what)


class Lines:
    """A line every half minute, with the rate since the first picture."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._first = 0
        self._began: float | None = None
        self._last = 0.0

    def __call__(self, done: int, failures: int) -> None:
        """So many are done, of which so many failed."""
        now = self._clock()
        if self._began is None:
            self._first, self._began, self._last = done, now, now
        elif now - self._last >= _LINE_EVERY_S:
            self._last = now
            rate = (done - self._first) / (now - self._began)
            console.print(f"{self._what}: {done:,} pictures, {failures:,} of them failed, {rate:,.0f} images/s")


@contextmanager
def _bar(what: str, first: int, count: Callable[[], int | None]) -> Iterator[Progress]:
    with bar() as shown:
        task = shown.add_task(what, total=None, completed=first, each=1)
        last = time.monotonic()

        def count_them() -> None:
            shown.update(task, total=count())

        def tell(done: int, failures: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _EVERY_S:
                last = time.monotonic()
                ends = _end(shown.tasks[0].time_remaining)
                failed = f", {failures:,} failed" if failures else ""
                shown.update(task, completed=done, description=f"{what}{failed}{ends}")

        threading.Thread(target=count_them, daemon=True).start()
        yield tell


def _end(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f", until about {datetime.now(UTC).astimezone() + timedelta(seconds=seconds):%H:%M}"
