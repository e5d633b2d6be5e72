"""CPUs that threads share evenly, as an operating system does. Knows nothing of what the threads do.

n threads that want c CPUs each get min(1, c/n) of one. Two CPUs that work at once may each be slower than one alone, as
they share caches, memory and often a core: `together`.
"""

import heapq
import itertools
from collections.abc import Callable

from benchmarks.fleet.events import Event, Events

Then = Callable[[], object]


class Processors:
    """So many CPUs. `together`: the speed of each where all are busy, of its speed alone. `speed`: of all of them."""

    def __init__(self, events: Events, cpus: int, together: float = 1.0) -> None:
        self._events = events
        self.cpus, self._together = cpus, together
        self._speed = 1.0
        self._done_s = self._since = 0.0  # how much each thread that was there all along has done, and when
        self._rate = 0.0
        self._jobs: list[tuple[float, int, Then]] = []
        self._numbers = itertools.count()
        self._next: Event | None = None
        self._finishing = False
        self.busy_s = 0.0  # seconds that CPUs were busy, all together

    @property
    def threads(self) -> int:
        """How many want a CPU."""
        return len(self._jobs)

    def work(self, seconds: float, then: Then) -> None:
        """A thread has work for so many seconds of a CPU alone; call `then` when it is done."""
        if not self._finishing:
            self._advance()
        heapq.heappush(self._jobs, (self._done_s + seconds, next(self._numbers), then))
        if not self._finishing:
            self._plan()

    def run_at(self, speed: float) -> None:
        """From now on everything takes 1/speed as long; at 0 it stands still."""
        self._advance()
        self._speed = speed
        self._plan()

    def stop(self) -> None:
        """The machine is lost, with all work on it."""
        self._advance()
        self._jobs.clear()
        self._plan()

    def _advance(self) -> None:
        passed = self._events.now - self._since
        self._since = self._events.now
        self._done_s += passed * self._rate
        self.busy_s += passed * min(len(self._jobs), self.cpus)

    def _plan(self) -> None:
        threads = len(self._jobs)
        busy = min(threads, self.cpus)
        slower = (1 - self._together) * (busy - 1) / max(1, self.cpus - 1) if busy else 0.0
        self._rate = self._speed * (1 - slower) * min(1.0, self.cpus / threads) if threads else 0.0
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._rate and not self._finishing:
            left_s = max(0.0, self._jobs[0][0] - self._done_s)
            self._next = self._events.after(left_s / self._rate, self._finish)

    def _finish(self) -> None:
        self._next = None
        self._advance()
        finish_s, _, then = heapq.heappop(self._jobs)
        self._done_s = max(self._done_s, finish_s)  # rounding must not leave a moment of work
        self._finishing = True  # what it leads to is planned once
        then()
        self._finishing = False
        self._plan()
