"""The whole service over HTTP, with several numbers of workers, under closed loops: the section `http` of gpu.py.

Loads services in turns; services.py starts them, and the tables are in tables.py. All services of a
model run side by side and one at a time has clients, so that a machine that changes its speed changes it for all.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from statistics import median

import numpy as np

from app.system.cpu_limits import usable_cpus
from benchmarks.fleet.observed import batches
from benchmarks.on_gpu.http.services import Model, Plan, Started, leaving_nothing, started
from benchmarks.overload.client_processes import ClientProcesses, Seen
from benchmarks.overload.loops import Terms
from benchmarks.overload.requests import REFUSALS, Request, requests_of
from benchmarks.serving.processes import memory_bytes
from benchmarks.serving.server import StartFailed

BUSY_CLIENT = 0.8  # of a core: a client process that takes more may be what limits the rate
_CONNECTIONS_A_CLIENT = 16
_CPUS_A_CLIENT = 4  # one client process for so many at most: it is the service that is measured
_LEAD_IN_S, _DEADLINE_S = 0.5, 30.0


@dataclass(frozen=True)
class Load:
    """One closed loop in one round. CPUs are averages over the window; `client_most`: of the busiest process.

    `answered`, `wrong` (200s) and `failed` (other statuses; 0: no answer) are of all that was asked, not of the window.
    """

    rate_s: float
    p50_ms: float
    p99_ms: float
    server_cpus: float
    client_cpus: float
    client_most: float
    clients: int
    images_a_run: float
    answered: int
    wrong: int
    failed: Mapping[int, int]


@dataclass
class Found:
    """What a model's services came to, by their number of workers and by connections."""

    model: Model
    services: dict[int, Started] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    loads: dict[tuple[int, int], list[Load]] = field(default_factory=dict)
    grown_bytes: int = 0
    unfinished: str = ""

    def of(self, workers: int, connections: int, value: Callable[[Load], float]) -> float:
        """The median over the rounds."""
        return median(map(value, self.loads[workers, connections]))

    def rate_s(self, workers: int, connections: int) -> float:
        return self.of(workers, connections, lambda load: load.rate_s)

    def best(self, workers: int | None = None) -> tuple[int, int] | None:
        """Workers and connections of the highest rate, of so many workers or of all."""
        cells = [cell for cell in self.loads if workers in (None, cell[0])]
        return max(cells, key=lambda cell: self.rate_s(*cell), default=None)

    def faults(self) -> list[str]:
        """What no service may do, each in words. That it refuses requests is told in the table."""
        lines = [f"{self.model.name}, {workers} workers: {why}" for workers, why in self.failures.items()]
        for (workers, connections), loads in self.loads.items():
            where = f"{self.model.name}, {workers} workers, {connections} connections"
            if wrong := sum(load.wrong for load in loads):
                lines.append(f"{where}: {wrong} answers with another label than the engine's")
            failed = added(load.failed for load in loads)
            lines += [f"{where}: {words(status, failed[status])}" for status in failed if status not in REFUSALS]
            if not all(load.answered for load in loads):
                lines.append(f"{where}: nothing was answered")
        return lines


def words(status: int, count: int) -> str:
    """Requests that were not answered with 200."""
    return f"{count} with {f'status {status}' if status else 'no answer'}"


def measure(plan: Plan, models: Sequence[Model], tell: Callable[[Sequence[Found]], None]) -> list[Found]:
    """All models, one after the other; `tell` hears of what there is after every load."""
    found: list[Found] = []
    with leaving_nothing(), ClientProcesses(_most_clients(plan.connections)) as clients:
        for model in models:
            found.append(Found(model))
            if plan.out_of_time():
                found[-1].unfinished = "not measured, out of time"
            else:
                _measure_model(plan, found[-1], clients, lambda: tell(found))
            tell(found)
    return found


def _measure_model(plan: Plan, found: Found, clients: ClientProcesses, tell: Callable[[], None]) -> None:
    with ExitStack() as stack:
        for workers in plan.workers:
            if plan.out_of_time():
                found.unfinished = f"{workers} workers and more are not measured, out of time"
                break
            try:
                found.services[workers] = started(stack, plan, found.model, workers)
            except (StartFailed, ValueError, OSError) as error:
                found.failures[workers] = f"it does not start: {error}"
            tell()
        before = _in_use(plan, found)
        _load_in_turns(plan, found, clients, tell)
        found.grown_bytes = _in_use(plan, found) - before
        tell()


def _in_use(plan: Plan, found: Found) -> int:
    """Memory of all services of the model: of the device, or of their processes."""
    if plan.used_bytes is not None:
        return plan.used_bytes()
    return memory_bytes(process for service in found.services.values() for process in service.processes)


def _load_in_turns(plan: Plan, found: Found, clients: ClientProcesses, tell: Callable[[], None]) -> None:
    requests = requests_of(found.model.workload, "raw", 1000 * _DEADLINE_S)
    for number in range(plan.rounds):
        in_turn = list(found.services) if number % 2 == 0 else list(reversed(found.services))
        for connections, workers in product(plan.connections, in_turn):
            if plan.out_of_time():
                found.unfinished = f"out of time in round {number + 1} of {plan.rounds}"
                return
            if workers in found.failures:
                continue
            try:
                load = _loaded(plan, found.services[workers], clients, requests, connections, number)
                found.loads.setdefault((workers, connections), []).append(load)
            except (ValueError, OSError) as error:
                found.failures[workers] = f"lost in round {number + 1} with {connections} connections: {error}"
            tell()


def _loaded(
    plan: Plan,
    service: Started,
    clients: ClientProcesses,
    requests: Sequence[Request],
    connections: int,
    number: int,
) -> Load:
    before = batches(service.port)
    terms = Terms(plan.seconds, min(_LEAD_IN_S, plan.seconds), _DEADLINE_S, connections)
    seen = clients.closed_loop(
        service.port, requests, terms, 1000 * number, service.processes, most=_clients(connections)
    )
    after = batches(service.port)
    runs = after[1] - before[1]
    return load_of(seen, (after[0] - before[0]) / runs if runs else math.nan)


def load_of(seen: Sequence[Seen], images_a_run: float) -> Load:
    """What several client processes saw, together."""
    latencies_ms = 1000 * np.concatenate([one.latencies_s for one in seen])
    p50, p99 = np.percentile(latencies_ms, [50, 99]) if latencies_ms.size else (math.nan, math.nan)
    return Load(
        rate_s=sum(one.latencies_s.size / one.seconds for one in seen),
        p50_ms=float(p50),
        p99_ms=float(p99),
        server_cpus=sum(one.used.server for one in seen),
        client_cpus=sum(one.used.client for one in seen),
        client_most=max(one.used.client for one in seen),
        clients=len(seen),
        images_a_run=images_a_run,
        answered=sum(one.answered for one in seen),
        wrong=sum(one.wrong for one in seen),
        failed=added(one.failed for one in seen),
    )


def added(counts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Counts by status, of all together."""
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def _clients(connections: int, cpus: int | None = None) -> int:
    """How many client processes share the connections."""
    most = max(1, (cpus or usable_cpus()) // _CPUS_A_CLIENT)
    return min(most, math.ceil(connections / _CONNECTIONS_A_CLIENT))


def _most_clients(connections: Sequence[int]) -> int:
    return max(map(_clients, connections))
