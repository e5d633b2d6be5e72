"""What loads come to: rates, times, shares, and whether the client was good enough. Knows no sockets and no tables."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks.overload.client import BROKEN
from benchmarks.overload.loops import Observed
from benchmarks.overload.requests import REFUSALS, RIGHT_STATUS, Ticket
from benchmarks.serving.results import Spread

_LATE_MS, _LATE_SHARE = 5.0, 0.05  # how late the client may send (p99): the larger, of a time and of the deadline
_HELD_SHARE = 0.001  # of its requests that may have to wait for a connection


@dataclass(frozen=True)
class Times:
    """Percentiles in ms; NaN where there were none."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Retries:
    """Second tries after Retry-After: those that came while the overload lasted, and those that came after it."""

    during: int
    during_right: int
    after: int
    after_right: int
    without_header: int  # refused with 429 or 503, and not told when to come again

    @property
    def share(self) -> float:
        """Of all that were right and in time; NaN where nobody tried."""
        tried = self.during + self.after
        return (self.during_right + self.after_right) / tried if tried else float("nan")


@dataclass(frozen=True)
class Load:
    """One load in one round. `times`: its rate as a multiple of the capacity, 0 for the closed loop.

    `offered_s` and `accepted_s`: requests due in the window, and those of them that were answered with 200.
    `goodput_s`: right answers within their deadline that came in the window. `accepted`, `refused`: from when they
    were due. `failed`: other statuses; `broken`: no answer; `late`: 200 after the deadline.
    """

    times: float
    offered_s: float
    accepted_s: float
    goodput_s: float
    accepted: Times
    refused: Times
    refusals: dict[int, int]
    late: int
    wrong: int
    failed: dict[int, int]
    broken: int
    retries: Retries
    lateness: Times
    held: int
    client_cpus: float
    server_cpus: float
    faults: tuple[str, ...]


def judged(observed: Observed, times: float, deadline_s: float) -> Load:
    """Figures of a load."""
    inside = [one for one in observed.tickets if observed.start <= one.due < observed.end]
    everything = [*observed.tickets, *observed.retries]
    seconds = observed.end - observed.start
    accepted = [one for one in inside if one.status == RIGHT_STATUS]
    refused = [one for one in inside if one.is_refused]
    statuses = Counter(one.status for one in everything)
    lateness = times_of(one.sent - one.due for one in everything if one.sent)
    load = Load(
        times=times,
        offered_s=len(inside) / seconds,
        accepted_s=len(accepted) / seconds,
        goodput_s=_came_in_time(observed, deadline_s) / seconds,
        accepted=times_of(one.latency_s for one in accepted),
        refused=times_of(one.latency_s for one in refused),
        refusals=dict(sorted(Counter(one.status for one in refused).items())),
        late=sum(one.latency_s > deadline_s for one in accepted),
        wrong=sum(one.status == RIGHT_STATUS and not one.right for one in everything),
        failed={status: count for status, count in statuses.items() if status not in (BROKEN, RIGHT_STATUS, *REFUSALS)},
        broken=statuses[BROKEN],
        retries=_retries(observed, refused, deadline_s),
        lateness=lateness,
        held=observed.held,
        client_cpus=observed.used.client,
        server_cpus=observed.used.server,
        faults=(),
    )
    return replace(load, faults=faults_of(load, len(everything), deadline_s))


def times_of(seconds: Iterable[float]) -> Times:
    """Percentiles."""
    found = np.fromiter(seconds, dtype=np.float64) * 1000
    if not found.size:
        return Times(*[float("nan")] * 4)
    return Times(*(float(each) for each in np.percentile(found, [50, 95, 99, 100])))


def faults_of(load: Load, sent: int, deadline_s: float) -> tuple[str, ...]:
    """Why the figures of a load do not count. What the service refuses, or answers late, is no fault."""
    faults = []
    may_lag_ms = max(_LATE_MS, _LATE_SHARE * deadline_s * 1000)
    if load.lateness.p99_ms > may_lag_ms:
        faults.append(f"the client sent {load.lateness.p99_ms:.0f} ms late (p99), more than {may_lag_ms:.0f}")
    if load.held > _HELD_SHARE * sent:
        faults.append(f"{load.held} requests had to wait for a connection of the client")
    if load.wrong:
        faults.append(f"{load.wrong} wrong")
    if load.broken:
        faults.append(f"{load.broken} without an answer")
    faults += [f"{count} with status {status}" for status, count in load.failed.items()]
    return tuple(faults)


@dataclass(frozen=True)
class Round:
    """The capacity, and loads at multiples of it, one after another."""

    workload: str
    number: int
    capacity: Load
    loads: tuple[Load, ...]

    @property
    def peak_s(self) -> float:
        """The best goodput of the round, whatever the load."""
        return self.peak.goodput_s

    @property
    def peak(self) -> Load:
        """The load with the best goodput."""
        return max((self.capacity, *self.loads), key=lambda load: load.goodput_s)


@dataclass(frozen=True)
class Aim:
    """What a service under overload should reach, and what it did: median over the rounds."""

    words: str
    reached: float
    wanted: float
    at_least: bool

    @property
    def is_met(self) -> bool:
        """False for NaN, too."""
        return self.reached >= self.wanted if self.at_least else self.reached <= self.wanted


class Results:
    """All rounds so far. `deadlines_ms` by workload."""

    def __init__(self, rounds: Sequence[Round], deadlines_ms: dict[str, float], cpus: int) -> None:
        self.rounds = tuple(rounds)
        self.deadlines_ms = deadlines_ms
        self.cpus = cpus

    def workloads(self) -> list[str]:
        """In the order of their turns."""
        return list(dict.fromkeys(one.workload for one in self.rounds))

    def of(self, workload: str) -> list[Round]:
        """Its rounds."""
        return [one for one in self.rounds if one.workload == workload]

    def multiples(self, workload: str) -> list[float]:
        """The loads that were tried."""
        return sorted({load.times for one in self.of(workload) for load in one.loads})

    def loads(self, workload: str, times: float) -> list[Load]:
        """One load in every round."""
        return [load for one in self.of(workload) for load in one.loads if load.times == times]

    def share(self, workload: str, times: float) -> Spread:
        """Goodput of the peak, round by round."""
        return Spread(
            tuple(load.goodput_s / one.peak_s for one in self.of(workload) for load in one.loads if load.times == times)
        )

    def made_up_share(self, workload: str, times: float) -> Spread:
        """The same for each CPU that the client left free: the more it sends, the less the server has."""

        def left(load: Load) -> float:
            return self.cpus - load.client_cpus

        return Spread(
            tuple(
                load.goodput_s / left(load) / (one.peak_s / left(one.peak))
                for one in self.of(workload)
                for load in one.loads
                if load.times == times
            )
        )

    def aims(self, workload: str) -> list[Aim]:
        """At the highest load. Figures that do not count do not meet them, either."""
        times = max(self.multiples(workload))
        loads = self.loads(workload, times)
        deadline_ms = self.deadlines_ms[workload]
        return [
            Aim(
                f"goodput at {times:g} times the capacity, of the peak", self.share(workload, times).median, 0.95, True
            ),
            Aim("p99 of the accepted, ms", median(load.accepted.p99_ms for load in loads), deadline_ms, False),
            Aim("time to refuse, median, ms", median(load.refused.p50_ms for load in loads), 5, False),
            Aim("second tries that succeed", median(load.retries.share for load in loads), 0.8, True),
        ]

    def faults(self) -> list[str]:
        """Everything that disqualifies a load, with where it was."""
        return [
            f"{one.workload}, round {one.number + 1}, {_name(load)}: {fault}"
            for one in self.rounds
            for load in (one.capacity, *one.loads)
            for fault in load.faults
        ]

    def as_json(self) -> list[dict[str, Any]]:
        """Everything, and what follows from it."""
        return [{**asdict(one), "peak_s": one.peak_s} for one in self.rounds]


def _came_in_time(observed: Observed, deadline_s: float) -> int:
    return sum(
        one.right and one.latency_s <= deadline_s and observed.start <= one.done < observed.end
        for one in observed.tickets
    )


def _retries(observed: Observed, refused: Sequence[Ticket], deadline_s: float) -> Retries:
    during = [one for one in observed.retries if one.due < observed.end]
    after = [one for one in observed.retries if one.due >= observed.end]

    def right(tickets: Sequence[Ticket]) -> int:
        return sum(one.right and one.latency_s <= deadline_s for one in tickets)

    untold = sum(one.retry_after_s is None and one.status != 504 for one in refused)
    return Retries(len(during), right(during), len(after), right(after), untold)


def _name(load: Load) -> str:
    return f"{load.times:g} times the capacity" if load.times else "closed loop"
