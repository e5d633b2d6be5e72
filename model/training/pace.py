"""How fast a run goes and when it is expected to end, in words. Knows nothing of networks or pictures."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

_WARM_UP_STEPS = 5  # they allocate, compile and fill caches
_TOLD_AFTER_STEPS = 20
_TOLERANCE = 0.1  # of the time that is left
_NO_NEWS_S = 60.0


class Pace:
    """Told of every step, it gives a line after the 20th, and after an epoch where that line has turned out wrong.

    wait: called before the clock is read, so that a GPU's queue is empty then.
    """

    def __init__(self, clock: Callable[[], float] = time.time, wait: Callable[[], None] = lambda: None) -> None:
        self._clock, self._wait = clock, wait
        self._steps = self._images = 0
        self._began = self._epoch_at = clock()
        self._epoch_steps = 0
        self._end_at: float | None = None

    def step(self, images: int, left: int) -> str | None:
        """After a step of so many pictures, with so many steps left."""
        self._steps += 1
        self._epoch_steps += 1
        if self._steps == _WARM_UP_STEPS:
            self._wait()
            self._began = self._clock()
        elif _WARM_UP_STEPS < self._steps <= _TOLD_AFTER_STEPS:
            self._images += images
        if self._steps != _TOLD_AFTER_STEPS or not left:
            return None
        self._wait()
        now = self._clock()
        taken = max(now - self._began, 1e-9)
        self._end_at = now + left * taken / (_TOLD_AFTER_STEPS - _WARM_UP_STEPS)
        return f"{self._images / taken:.0f} images/s; {_expected(now, self._end_at)}"

    def epoch(self, left: int) -> str | None:
        """After an epoch and its evaluation, with so many steps left: a line where the end has moved by a tenth."""
        now = self._clock()
        end_at = now + left * (now - self._epoch_at) / max(1, self._epoch_steps)
        self._epoch_at, self._epoch_steps = now, 0
        if self._end_at is None or not left:
            return None
        if abs(end_at - self._end_at) < max(_NO_NEWS_S, _TOLERANCE * (end_at - now)):
            return None
        self._end_at = end_at
        return _expected(now, end_at)


def _expected(now: float, end_at: float) -> str:
    begin, end = datetime.fromtimestamp(now), datetime.fromtimestamp(end_at)
    at = f"{end:%H:%M}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"expected to end at {at}, in {duration(end_at - now)}"


def duration(seconds: float) -> str:
    """In its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(timedelta(seconds=seconds) / timedelta(minutes=1))
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
