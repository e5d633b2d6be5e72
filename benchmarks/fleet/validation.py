"""One machine, measured and simulated in turn: the same loads, with parameters of the same round.

The loads that parameters are taken from (a closed loop of one connection, one of 64, an open one at four times the
capacity) and those that are compared are not the same, but for the one connection.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from app.system.cpu_limits import usable_cpus
from benchmarks.fleet import measuring, one_machine, speeds
from benchmarks.fleet.measured import BEYOND, CLOSED, MANY, OPEN, Machine, Round, closed_name, open_name
from benchmarks.fleet.observed import Bench, Figures, Load, figures, seconds_to_end
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.request import End
from benchmarks.fleet.subject import Subject, running, subject_of
from benchmarks.serving.server import Server

_WITHIN = 0.15
_POINTS = 0.02
_SHOWN = 0.005  # a spread that is not 0 % in words
_TRACE_S = 1.5  # of the CPUs' speeds, before and after each load
_SIMULATIONS = 5  # of each load of each round, which begin at other moments of the speeds


@dataclass(frozen=True)
class Pair:
    """One load: what was measured, and what the simulation says; medians of the rounds. `rounds`: as measured."""

    name: str
    measured: Figures
    simulated: Figures
    rounds: tuple[Figures, ...] = ()

    def spread(self, figure: str) -> float:
        """Half the distance from the least to the most that was measured; of rates and times a share of the median."""
        found = [getattr(one, figure) for one in self.rounds]
        half = (max(found) - min(found)) / 2 if found else 0.0
        middle_one = 1.0 if figure == "refused" else getattr(self.measured, figure)
        return half / middle_one if middle_one else 0.0


def measure(
    bundle: Path, rounds: int, seconds: float, deadline_s: float, log: Path, *, is_pinned: bool = False
) -> Machine:
    """Everything in turns, round after round. `is_pinned`: whether each worker keeps to a CPU of its own."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        subject = subject_of(bundle, Path(folder))
        with running(subject, log, [f"MIXER_PIN_WORKERS={is_pinned}"]) as server:
            found = tuple(_round(number, subject, server, seconds, deadline_s) for number in range(rounds))
            drain_s = seconds_to_end(server)
        return Machine(
            measuring.circumstances(subject), subject.engine.max_batch_size, usable_cpus(), server.startup_s, drain_s,
            seconds, deadline_s, found, is_pinned,
        )  # fmt: skip


def _round(number: int, subject: Subject, server: Server, seconds: float, deadline_s: float) -> Round:
    patient, hasty = (Bench(server, subject.requests(each * 1000), seconds) for each in (30.0, deadline_s))
    _say(f"round {number + 1}: parameters, closed loops")
    bare, idle_wake_s = measuring.bare(subject), speeds.idle_wake_s()
    traces, trace_s = [], min(_TRACE_S, seconds)
    loads: dict[str, tuple[float, Load]] = {}
    for connections in (*CLOSED, MANY):
        traces.append(speeds.measure(trace_s))
        loads[closed_name(connections)] = (connections, patient.closed(connections, number))
    capacity_s = loads[closed_name(32)][1].figures.rate_s
    for times in (*OPEN, BEYOND):
        _say(f"round {number + 1}: {times:g} times {capacity_s:.0f}/s")
        rate = times * capacity_s
        traces.append(speeds.measure(trace_s))
        loads[open_name(times)] = (rate, hasty.open(rate, number, deadline_s))
    traces.append(speeds.measure(trace_s))
    return Round(bare, loads, tuple(traces), idle_wake_s)


def parameters_of(machine: Machine) -> list[Parameters]:
    """Those of each round."""
    found = [
        measuring.parameters(
            one.bare, one.load(closed_name(1)), one.load(closed_name(MANY)), one.load(open_name(BEYOND)),
            max_batch_size=machine.max_batch_size, cpus=machine.cpus, ready_s=machine.ready_s, drain_s=machine.drain_s,
            circumstances=machine.circumstances,
        )
        for one in machine.rounds
    ]  # fmt: skip
    return [
        replace(own, speeds=one.all_speeds(), idle_wake_s=one.idle_wake_s, is_pinned=machine.is_pinned)
        for own, one in zip(found, machine.rounds, strict=True)
    ]


def compare(machine: Machine) -> tuple[Parameters, list[Pair]]:
    """The medians of the parameters, and each load, measured and simulated."""
    found = parameters_of(machine)
    names = [closed_name(each) for each in CLOSED] + [open_name(each) for each in OPEN]
    return measuring.medians(found), [_pair(machine, found, name) for name in names]


def _pair(machine: Machine, parameters: Sequence[Parameters], name: str) -> Pair:
    said = [
        middle([_simulated(machine, own, name, one.loads[name][0], seed) for seed in range(_SIMULATIONS)])
        for one, own in (
            (one, replace(own, speeds=one.speeds(name))) for one, own in zip(machine.rounds, parameters, strict=True)
        )
    ]
    measured = tuple(one.load(name).figures for one in machine.rounds)
    return Pair(name, middle(measured), middle(said), measured)


def _simulated(machine: Machine, own: Parameters, name: str, load: float, seed: int) -> Figures:
    """One load with the parameters of its round."""
    if name.startswith("open"):
        window = one_machine.open_loop(own, load, machine.seconds, seed, machine.deadline_s)
        return figures_of(window, is_open=True)
    return figures_of(one_machine.closed_loop(own, int(load), machine.seconds, seed), is_open=False)


def figures_of(window: one_machine.Window, *, is_open: bool) -> Figures:
    """As of the real service."""
    due = window.due if is_open else window.heard
    for request in due:
        request.status = request.end.value if request.end is not None else End.BROKEN.value  # as figures() asks
    return figures([one for one in due if one.end is End.ANSWERED], due, window.end - window.start)  # type: ignore[arg-type]


def middle(found: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(*(median(getattr(one, name) for one in found) for name in vars(found[0])))


def _say(words: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {words}", file=sys.stderr, flush=True)


def outside(pairs: Sequence[Pair]) -> list[str]:
    """What does not agree within 15 %: a line each. Of what is refused, 2 points are agreement, too."""
    lines = []
    for pair in pairs:
        for figure in ("rate_s", "p50_ms", "p99_ms", "refused"):
            measured, simulated = getattr(pair.measured, figure), getattr(pair.simulated, figure)
            near = figure == "refused" and abs(simulated - measured) <= _POINTS
            if not near and not abs(simulated - measured) <= _WITHIN * measured:
                lines.append(f"{pair.name}: {figure} is {measured:.3g} measured, {simulated:.3g} simulated")
    return lines


def table(pairs: Sequence[Pair]) -> str:
    """Markdown."""
    lines = [
        "| load | answers/s: measured, simulated | ratio | p50, ms | ratio | p99, ms | ratio | refused | Retry-After |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in pairs:
        m, s = pair.measured, pair.simulated
        rate, p50, refused = (
            f" ±{spread:.0%}" if (spread := pair.spread(figure)) >= _SHOWN else ""
            for figure in ("rate_s", "p50_ms", "refused")
        )
        lines.append(
            f"| {pair.name} | {m.rate_s:.1f}{rate}, {s.rate_s:.1f} | {_ratio(m.rate_s, s.rate_s)} "
            f"| {m.p50_ms:.1f}{p50}, {s.p50_ms:.1f} | {_ratio(m.p50_ms, s.p50_ms)} "
            f"| {m.p99_ms:.1f}, {s.p99_ms:.1f} | {_ratio(m.p99_ms, s.p99_ms)} "
            f"| {m.refused:.1%}{refused}, {s.refused:.1%} | {m.retry_after_s:.0f}, {s.retry_after_s:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(measured: float, simulated: float) -> str:
    ratio = simulated / measured if measured else float("nan")
    return f"{ratio:.2f}" if abs(ratio - 1) <= _WITHIN else f"**{ratio:.2f}**"
