"""CPUs and the threads that want them, as Linux schedules them. Knows nothing of what the threads do.

A CPU runs one thread at a time. A thread that wakes up takes the CPU that it was on, or another that is idle, which
needs a moment (`idle_wake_s`); where all are busy it waits for that CPU, and drives away who has had it for a slice:
at once, or else at the next tick. A CPU that has nothing to do takes what waits for another, unless that is pinned to
it. CPUs that work at once may
each be slower than one alone, as they share caches, memory and often a core (`together`), and each may be faster and
slower from moment to moment, as was measured (`speeds`).
"""

import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from benchmarks.fleet.events import Event, Events
from benchmarks.fleet.speeds import WINDOW_S, Speeds

Then = Callable[[], object]

TICK_S = 0.004  # CONFIG_HZ=250, as of Debian and most clouds
SLICE_S = 0.0014  # 0.7 ms times 1 + log2 of two CPUs, as Linux has it since 6.13
_NOTHING_S = 1e-9  # less than any time that counts


@dataclass(slots=True)
class _Job:
    """`left_s`: of a CPU alone at speed 1. `is_pinned`: whether no other CPU may run it than its thread's."""

    left_s: float
    then: Then
    thread: Hashable
    is_pinned: bool = False


@dataclass(slots=True)
class _Cpu:
    """`since`: when the running job was last looked at; `taken`: when its thread got the CPU."""

    number: int
    running: _Job | None = None
    waiting: deque[_Job] = field(default_factory=deque)
    since: float = 0.0
    taken: float = 0.0
    rate: float = 0.0
    next: Event | None = None


class Processors:
    """So many CPUs. `together`: the speed of each where all are busy, of its speed alone.

    `speeds`: replayed over and over from window `first` on, the same for several CPUs where there are more of them.
    """

    def __init__(
        self,
        events: Events,
        cpus: int,
        together: float = 1.0,
        speeds: Speeds = (),
        first: int = 0,
        idle_wake_s: float = 0.0,
    ) -> None:
        self._events = events
        self.cpus, self._together = cpus, together
        self._speeds, self._first, self._idle_wake_s = speeds, first, idle_wake_s
        self._speed = 1.0  # of all
        self._cpus = [_Cpu(number) for number in range(cpus)]
        self._last: dict[Hashable, int] = {}  # which CPU each thread was on
        self._finishing: tuple[_Cpu, Hashable] | None = None
        self._continued: _Job | None = None
        self.busy_s = 0.0  # seconds that CPUs were busy, all together

    @property
    def threads(self) -> int:
        """How many want a CPU."""
        return sum((cpu.running is not None) + len(cpu.waiting) for cpu in self._cpus)

    def work(
        self, seconds: float, then: Then, thread: Hashable = None, home: int = 0, *, is_pinned: bool = False
    ) -> None:
        """A thread has work for so many seconds of a CPU alone; call `then` when it is done.

        A thread that is told of more in `then` goes on with it. None: one that nobody knows. `home`: where one begins;
        a pinned one stays there.
        """
        job = _Job(seconds, then, object() if thread is None else thread, is_pinned)
        if self._finishing is not None and job.thread == self._finishing[1]:
            self._continued = job
        else:
            self._wake(job, home)

    def run_at(self, speed: float) -> None:
        """From now on everything takes 1/speed as long; at 0 it stands still."""
        for cpu in self._cpus:
            self._advance(cpu)
        self._speed = speed
        for cpu in self._cpus:
            self._plan(cpu)

    def stop(self) -> None:
        """The machine is lost, with all work on it."""
        for cpu in self._cpus:
            self._advance(cpu)
            cpu.running = None
            cpu.waiting.clear()
            self._plan(cpu)

    # --- which thread is where ---

    def _wake(self, job: _Job, home: int) -> None:
        cpu = self._cpus[self._last.get(job.thread, home % self.cpus)]
        ending = None if self._finishing is None else self._finishing[0]
        allowed = [cpu] if job.is_pinned else self._cpus
        idle = [one for one in allowed if one.running is None and one is not ending]
        if idle:
            job.left_s += self._idle_wake_s
            self._take(cpu if cpu in idle else idle[0], job)
            return
        cpu.waiting.append(job)
        if cpu.running is not None:
            self._let_go(cpu)

    def _let_go(self, cpu: _Cpu) -> None:
        """Somebody waits: who has had the CPU for a slice goes to the end."""
        if cpu.running is not None and self._events.now - cpu.taken >= SLICE_S - _NOTHING_S:
            self._advance(cpu)
            cpu.waiting.append(cpu.running)
            self._take(cpu, cpu.waiting.popleft())
        else:
            self._plan(cpu)

    def _take(self, cpu: _Cpu, job: _Job) -> None:
        cpu.running = job
        cpu.taken = cpu.since = self._events.now
        self._last[job.thread] = cpu.number
        self._plan(cpu)
        self._plan_others(cpu)

    def _take_what_waits(self, cpu: _Cpu) -> None:
        if cpu.waiting:
            self._take(cpu, cpu.waiting.popleft())
            return
        for longest in sorted(self._cpus, key=lambda one: -len(one.waiting)):
            for job in longest.waiting:
                if not job.is_pinned:
                    longest.waiting.remove(job)
                    self._take(cpu, job)
                    return
        self._plan_others(cpu)

    # --- how long it takes ---

    def _advance(self, cpu: _Cpu) -> None:
        passed, cpu.since = self._events.now - cpu.since, self._events.now
        if cpu.running is not None:
            cpu.running.left_s -= passed * cpu.rate
            self.busy_s += passed

    def _plan(self, cpu: _Cpu) -> None:
        """When the CPU is looked at again: something is done, its speed changes, or a tick comes while others wait."""
        if cpu.next is not None:
            cpu.next.cancel()
            cpu.next = None
        if cpu.running is None:
            return
        self._advance(cpu)
        cpu.rate = self._rate(cpu)
        now = self._events.now
        next_s = max(0.0, cpu.running.left_s) / cpu.rate if cpu.rate else math.inf
        if self._speeds and self._speed:
            next_s = min(next_s, (int(now / WINDOW_S + 1e-6) + 1) * WINDOW_S - now)
        if cpu.waiting and self._speed:
            next_s = min(next_s, (math.floor(now / TICK_S + 1e-6) + 1) * TICK_S - now)
        if next_s < math.inf:
            cpu.next = self._events.after(next_s, self._look, cpu)

    def _plan_others(self, cpu: _Cpu) -> None:
        """Where CPUs that work at once are slower, and one more or less does."""
        if self._together != 1.0:
            for other in self._cpus:
                if other is not cpu:
                    self._plan(other)

    def _rate(self, cpu: _Cpu) -> float:
        busy = sum(one.running is not None for one in self._cpus)
        speed = self._speed * (1 - (1 - self._together) * (busy - 1) / max(1, self.cpus - 1))
        if not self._speeds:
            return speed
        trace, row = self._speeds[cpu.number % len(self._speeds)], 1 + cpu.number // len(self._speeds)
        return speed * trace[(int(self._events.now / WINDOW_S + 1e-6) + self._first * row) % len(trace)]

    def _look(self, cpu: _Cpu) -> None:
        cpu.next = None
        self._advance(cpu)
        if cpu.running is not None and cpu.running.left_s <= _NOTHING_S:
            self._finish(cpu, cpu.running)
        elif cpu.waiting:
            self._let_go(cpu)
        else:
            self._plan(cpu)

    def _finish(self, cpu: _Cpu, job: _Job) -> None:
        cpu.running = None
        self._finishing, self._continued = (cpu, job.thread), None
        job.then()
        self._finishing = None
        if self._continued is not None and cpu.running is None:
            cpu.running, cpu.since = self._continued, self._events.now
            self._plan(cpu)
        else:
            self._take_what_waits(cpu)
