"""Virtual time: what is due next happens next. Knows nothing of what happens.

Events of the same moment happen in the order in which they were planned, so that a run repeats itself exactly.
"""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any


class Event:
    """Something planned. `when` in seconds."""

    __slots__ = ("arguments", "then", "when")

    def __init__(self, when: float, then: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.when = when
        self.then: Callable[..., object] | None = then
        self.arguments = arguments

    def cancel(self) -> None:
        """It does not happen."""
        self.then = None


class Events:
    """A clock that starts at 0 and jumps from one event to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()

    def at(self, when: float, then: Callable[..., object], *arguments: Any) -> Event:
        """Call `then` at that time, or now where it has passed."""
        event = Event(max(when, self.now), then, arguments)
        heapq.heappush(self._planned, (event.when, next(self._numbers), event))
        return event

    def after(self, seconds: float, then: Callable[..., object], *arguments: Any) -> Event:
        """Call `then` so much later."""
        return self.at(self.now + seconds, then, *arguments)

    def every(self, seconds: float, then: Callable[[], object]) -> None:
        """Call `then` now and again and again. A run with such events needs an end."""
        then()
        self.after(seconds, self.every, seconds, then)

    def run(self, until: float = math.inf) -> None:
        """Until nothing is planned, or up to that time."""
        while self._planned and self._planned[0][0] <= until:
            when, _, event = heapq.heappop(self._planned)
            if event.then is None:
                continue
            self.now = when
            event.then(*event.arguments)
        if until != math.inf:
            self.now = max(self.now, until)
