"""CPUs that threads share, as an operating system lets them. Knows nothing of what the threads do.

A thread works on the CPU that it was on before, its home; one without a home goes where the fewest are. A CPU that
would be idle takes a thread from one with several. The threads on a CPU share it evenly. CPUs that work at once may
each be slower than one alone, as they share caches, memory and often a core: `together`. Each may also be faster and
slower from moment to moment, as was measured: `speeds`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.fleet.events import Event, Events
from benchmarks.fleet.speeds import WINDOW_S, Speeds

Then = Callable[[], object]

_NOTHING_S = 1e-9  # less than any time that counts


@dataclass(slots=True)
class _Job:
    """`left_s`: of a CPU alone at speed 1. `rate`: how much of it is done in a second."""

    left_s: float
    then: Then
    home: int | None
    rate: float = 0.0


class Processors:
    """So many CPUs. `together`: the speed of each where all are busy, of its speed alone.

    `speeds`: replayed over and over from window `first` on, the same for several CPUs where there are more of them.
    """

    def __init__(self, events: Events, cpus: int, together: float = 1.0, speeds: Speeds = (), first: int = 0) -> None:
        self._events = events
        self.cpus, self._together = cpus, together
        self._speeds, self._first = speeds, first
        self._speed = 1.0  # of all
        self._of_cpus = [1.0] * cpus
        self._window_ends = 0.0 if speeds else math.inf
        self._since = 0.0
        self._jobs: list[_Job] = []
        self._next: Event | None = None
        self._finishing = False
        self.busy_s = 0.0  # seconds that CPUs were busy, all together

    @property
    def threads(self) -> int:
        """How many want a CPU."""
        return len(self._jobs)

    def work(self, seconds: float, then: Then, home: int | None = None) -> None:
        """A thread has work for so many seconds of a CPU alone; call `then` when it is done."""
        if not self._finishing:
            self._advance()
        self._jobs.append(_Job(seconds, then, home))
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
        self.busy_s += passed * min(len(self._jobs), self.cpus)
        for job in self._jobs:
            job.left_s -= passed * job.rate

    def _plan(self) -> None:
        """Who is where and how fast, and what happens next: something is done, or a CPU's speed changes."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if not self._jobs:
            return
        if self._events.now >= self._window_ends - _NOTHING_S:
            self._see_window()
        busy = min(len(self._jobs), self.cpus)
        speed = self._speed * (1 - (1 - self._together) * (busy - 1) / max(1, self.cpus - 1))
        for cpu, jobs in enumerate(self._shared_out()):
            for job in jobs:
                job.rate = speed * self._of_cpus[cpu] / len(jobs)
        left_s = min((max(0.0, job.left_s) / job.rate for job in self._jobs if job.rate), default=math.inf)
        if self._speed and self._events.now + left_s > self._window_ends:
            self._next = self._events.at(self._window_ends, self._change)
        elif left_s < math.inf:
            self._next = self._events.after(left_s, self._finish)

    def _see_window(self) -> None:
        """How fast each CPU is by now: looked at while there is work, so that an idle machine plans nothing."""
        window = int(self._events.now / WINDOW_S + 1e-6)
        self._window_ends = (window + 1) * WINDOW_S
        for cpu in range(self.cpus):
            trace = self._speeds[cpu % len(self._speeds)]
            self._of_cpus[cpu] = trace[(window + self._first * (1 + cpu // len(self._speeds))) % len(trace)]

    def _shared_out(self) -> list[list[_Job]]:
        """The jobs of each CPU."""
        if self.cpus == 1:
            return [self._jobs]
        of_cpus: list[list[_Job]] = [[] for _ in range(self.cpus)]
        for job in self._jobs:
            if job.home is not None:
                of_cpus[job.home % self.cpus].append(job)
        for job in self._jobs:
            if job.home is None:
                min(of_cpus, key=len).append(job)
        while len(longest := max(of_cpus, key=len)) > 1 and not (shortest := min(of_cpus, key=len)):
            shortest.append(longest.pop())
        return of_cpus

    def _change(self) -> None:
        self._next = None
        self._advance()
        self._plan()

    def _finish(self) -> None:
        self._next = None
        self._advance()
        done = min((job for job in self._jobs if job.rate), key=lambda job: job.left_s / job.rate)
        self._jobs.remove(done)
        self._finishing = True  # what it leads to is planned once
        done.then()
        self._finishing = False
        self._plan()
