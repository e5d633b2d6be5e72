"""The order of things: who has a turn when, and what happens in it. Knows nothing of tables."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from app.engine.engine import Engine
from benchmarks.serving import client
from benchmarks.serving.cells import Body, Cell, cells
from benchmarks.serving.configurations import Configuration
from benchmarks.serving.results import Run, Turn
from benchmarks.serving.server import Server, StartFailed, serving
from benchmarks.serving.workloads import Workload
from cli.bench.stopwatch import Candidate, measure, rate

T = TypeVar("T")

_ANSWERS = 4  # that every connection gets at least, at the ceiling's rate
_MOST_S = 120  # for one measurement all the same
_WARM_S = (1.0, 10.0)


@dataclass(frozen=True)
class Ceiling:
    """Decoding and running in bare threads, in the batches that go fastest. `found`: images/s when they were chosen."""

    candidate: Candidate[int]
    found: float

    def images_s(self, seconds: float) -> float:
        """One figure."""
        return rate(self.candidate, seconds, perf_counter)


@dataclass(frozen=True)
class Subject:
    """One model under test: its workloads with their ceilings, and the servers that take part."""

    model: str
    engine: Engine
    workloads: Sequence[Workload]
    ceilings: dict[str, Ceiling]
    configurations: Sequence[Configuration]


@dataclass(frozen=True)
class Terms:
    """How much is measured. `warm_up`: servers are warmed for as long as they took to start, within bounds."""

    seconds: float
    rounds: int
    bodies: Sequence[Body]
    connections: Sequence[int]
    warm_up: bool = True


def fastest(candidates: Sequence[Candidate[int]], seconds: float, rounds: int) -> Ceiling:
    """The ceiling among bare threads with batches of several sizes."""
    found = measure(candidates, seconds=seconds, rounds=rounds)
    best = max(candidates, key=lambda candidate: found[candidate.key].rate)
    return Ceiling(best, found[best.key].rate)


def in_turn(entries: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Every entry once a round, a round later in the opposite order."""
    for number in range(rounds):
        yield from ((number, entry) for entry in (entries if number % 2 == 0 else reversed(entries)))


def run_for(seconds: float, connections: int, images_s: float) -> float:
    """Seconds of a measurement: long enough that a server at the ceiling answers every connection several times."""
    needed = min(_MOST_S, _ANSWERS * connections / images_s)
    return seconds if needed <= seconds else float(round(needed + 0.5))


def take_turn(
    number: int, subject: Subject, configuration: Configuration, programs: Path, terms: Terms, log: Path
) -> Turn:
    """One server's turn in one round: the ceilings, then the server in every cell that it can serve."""
    ceilings = {name: ceiling.images_s(terms.seconds) for name, ceiling in subject.ceilings.items()}
    turn = Turn(number, subject.model, configuration.name, configuration.peer, ceilings)
    bodies = [body for body in terms.bodies if body in configuration.bodies]
    plan = list(cells([workload.kind.name for workload in subject.workloads], bodies, terms.connections))
    if not plan:
        return turn
    try:
        with serving(configuration, programs, subject.workloads[0].probe(bodies[0]), log) as server:
            turn.startup_s = server.startup_s
            if terms.warm_up:
                _warm(server, subject.workloads[0], bodies[0])
            for cell in plan if number % 2 == 0 else reversed(plan):
                turn.runs.append(_measured(server, subject, cell, ceilings[cell.workload], terms.seconds))
            turn.memory_bytes = server.memory_bytes()
    except StartFailed as error:
        turn.failure = str(error)
    return turn


def _warm(server: Server, workload: Workload, body: Body) -> None:
    shortest, longest = _WARM_S
    client.run(workload.plans[body], server.port, 8, min(longest, max(shortest, server.startup_s)))
    server.await_rest()


def _measured(server: Server, subject: Subject, cell: Cell, ceiling: float, seconds: float) -> Run:
    workload = next(one for one in subject.workloads if one.kind.name == cell.workload)
    wanted = run_for(seconds, cell.connections, subject.ceilings[cell.workload].found)
    print(f"    {cell.workload}, {cell.body}, {cell.connections} connections, {wanted:g} s", file=sys.stderr)
    outcome = client.run(workload.plans[cell.body], server.port, cell.connections, wanted)
    server.await_rest()
    return Run(cell, outcome, ceiling)
