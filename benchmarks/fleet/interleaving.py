"""One machine, measured in slices: each load for some seconds, with a reference right before and right after it.

A reference is a closed loop of many connections; what it answers a second is how fast the machine was then. An open
loop's rate is a multiple of what the reference right before it has answered. Knows nothing simulated.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.system.cpu_limits import usable_cpus
from benchmarks.fleet import measuring, speeds
from benchmarks.fleet.measured import ALONE, BEYOND, CLOSED, MANY, OPEN, Machine, Round, closed_name, open_name
from benchmarks.fleet.observed import Bench, Load, seconds_to_end
from benchmarks.fleet.subject import Subject, running, subject_of
from benchmarks.serving.server import Server

_TRACE_S = 2.0  # of the CPUs' speeds, when a round begins and when it ends
_REFERENCE_LEAD_IN_S = 0.5
_PATIENT_MS = 30_000.0

Ask = Callable[[float], tuple[float, Load]]  # from the rate of a reference to connections, or a rate, and what it did


@dataclass(frozen=True)
class Plan:
    """How long is measured. `rounds`: slices of each load; `seconds`: of a slice; `reference_s`: of a reference."""

    rounds: int
    seconds: float
    reference_s: float
    deadline_s: float


def measure(bundle: Path, plan: Plan, log: Path, *, is_pinned: bool = False) -> Machine:
    """All loads in turns, round after round. `is_pinned`: whether each worker keeps to a CPU of its own."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        subject = subject_of(bundle, Path(folder))
        with running(subject, log, [f"MIXER_PIN_WORKERS={is_pinned}"]) as server:
            found = tuple(_round(number, subject, server, plan) for number in range(plan.rounds))
            drain_s = seconds_to_end(server)
        return Machine(
            measuring.circumstances(subject), subject.engine.max_batch_size, usable_cpus(), server.startup_s, drain_s,
            plan.seconds, plan.deadline_s, found, is_pinned,
        )  # fmt: skip


def _round(number: int, subject: Subject, server: Server, plan: Plan) -> Round:
    _say(f"round {number + 1} of {plan.rounds}")
    bare, idle_wake_s, trace_s = measuring.bare(subject), speeds.idle_wake_s(), min(_TRACE_S, plan.seconds)
    patient, hasty = subject.requests(_PATIENT_MS), subject.requests(plan.deadline_s * 1000)
    reference = Bench(server, patient, plan.reference_s, min(_REFERENCE_LEAD_IN_S, plan.reference_s))
    asks = _asks(number, Bench(server, patient, plan.seconds), Bench(server, hasty, plan.seconds), plan.deadline_s)
    before = speeds.measure(trace_s)
    references, loads = interleaved(asks, lambda: reference.closed(MANY, number))
    return Round(bare, loads, references, (before, speeds.measure(trace_s)), idle_wake_s)


def _asks(number: int, patient: Bench, hasty: Bench, deadline_s: float) -> dict[str, Ask]:
    """Every load by its name. Each round has random numbers of its own."""

    def closed(connections: int) -> Ask:
        return lambda capacity_s: (connections, patient.closed(connections, number))

    def opened(times: float) -> Ask:
        return lambda capacity_s: (times * capacity_s, hasty.open(times * capacity_s, number, deadline_s))

    return {
        ALONE: closed(1),
        **{closed_name(connections): closed(connections) for connections in CLOSED},
        **{open_name(times): opened(times) for times in (*OPEN, BEYOND)},
    }


def interleaved(
    asks: dict[str, Ask], reference: Callable[[], Load]
) -> tuple[tuple[Load, ...], dict[str, tuple[float, Load]]]:
    """Each load between two references, the second of which is the first of the next. Raises ValueError: no answer."""
    references, loads = [reference()], {}
    for name, ask in asks.items():
        capacity_s = references[-1].even_rate_s
        if not capacity_s > 0:
            raise ValueError(f"The reference before {name!r} had {capacity_s:g} answers/s; expected more than none.")
        loads[name] = ask(capacity_s)
        references.append(reference())
    return tuple(references), loads


def _say(words: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {words}", file=sys.stderr, flush=True)
