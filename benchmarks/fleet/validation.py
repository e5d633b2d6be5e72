"""One machine, measured and simulated in turn: the same loads, with parameters of the same run.

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

from benchmarks.fleet import measuring, one_machine
from benchmarks.fleet.observed import Bench, Figures, figures, seconds_to_end
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.request import End
from benchmarks.fleet.subject import Subject, running, subject_of

CLOSED, OPEN = (1, 8, 32), (0.5, 0.8, 1.5, 2.0)
_MANY, _BEYOND = 64, 4.0
_WITHIN = 0.15
_POINTS = 0.02


@dataclass(frozen=True)
class Pair:
    """One load: what was measured, and what the simulation says; medians of the rounds. `rounds`: as measured."""

    name: str
    measured: Figures
    simulated: Figures
    rounds: tuple[Figures, ...] = ()

    def spread(self, figure: str) -> float:
        """Half the distance from the least to the most that was measured, as a share of the median."""
        found = [getattr(one, figure) for one in self.rounds]
        middle_one = getattr(self.measured, figure)
        return (max(found) - min(found)) / 2 / middle_one if found and middle_one else 0.0


class Measured:
    """All rounds of one service."""

    def __init__(self) -> None:
        self.parameters: list[Parameters] = []
        self.loads: dict[str, list[tuple[float, Figures]]] = {}

    def note(self, name: str, load: float, found: Figures) -> None:
        """`load`: connections, or requests a second."""
        self.loads.setdefault(name, []).append((load, found))


def validate(bundle: Path, rounds: int, seconds: float, deadline_s: float, log: Path) -> tuple[Parameters, list[Pair]]:
    """Measure in turns, take the medians, and simulate the same."""
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        subject = subject_of(bundle, Path(folder))
        with running(subject, log) as server:
            for number in range(rounds):
                _round(number, subject, server, seconds, deadline_s, measured)
            drain_s = seconds_to_end(server)
    parameters = replace(measuring.medians(measured.parameters), drain_s=drain_s)
    return parameters, simulated(measured, parameters, seconds, deadline_s)


def _round(number, subject: Subject, server, seconds: float, deadline_s: float, measured: Measured) -> None:  # type: ignore[no-untyped-def]
    patient, hasty = (Bench(server, subject.requests(each * 1000), seconds) for each in (30.0, deadline_s))
    _say(f"round {number + 1}: parameters")
    bare = measuring.bare(subject)
    closed = {connections: patient.closed(connections, number) for connections in (*CLOSED, _MANY)}
    capacity_s = closed[32].figures.rate_s
    for connections in CLOSED:
        measured.note(f"closed, {connections}", connections, closed[connections].figures)
    for times in OPEN:
        _say(f"round {number + 1}: {times:g} times {capacity_s:.0f}/s")
        rate = times * capacity_s
        measured.note(f"open, {times:g} times", rate, hasty.open(rate, number, deadline_s).figures)
    beyond = hasty.open(_BEYOND * capacity_s, number, deadline_s)
    measured.parameters.append(measuring.parameters(subject, bare, closed[1], closed[_MANY], beyond, server.startup_s))


def simulated(measured: Measured, parameters: Parameters, seconds: float, deadline_s: float) -> list[Pair]:
    """Each load with the medians of its rounds."""
    pairs = []
    for name, rounds in measured.loads.items():
        is_open = name.startswith("open")
        said = []
        for seed, (load, _) in enumerate(rounds):
            if is_open:
                window = one_machine.open_loop(parameters, load, seconds, seed, deadline_s)
            else:
                window = one_machine.closed_loop(parameters, int(load), seconds, seed)
            said.append(figures_of(window, is_open=is_open))
        found = tuple(each for _, each in rounds)
        pairs.append(Pair(name, middle(found), middle(said), found))
    return pairs


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
        rate, p50 = pair.spread("rate_s"), pair.spread("p50_ms")
        lines.append(
            f"| {pair.name} | {m.rate_s:.1f} ±{rate:.0%}, {s.rate_s:.1f} | {_ratio(m.rate_s, s.rate_s)} "
            f"| {m.p50_ms:.1f} ±{p50:.0%}, {s.p50_ms:.1f} | {_ratio(m.p50_ms, s.p50_ms)} "
            f"| {m.p99_ms:.1f}, {s.p99_ms:.1f} | {_ratio(m.p99_ms, s.p99_ms)} "
            f"| {m.refused:.1%}, {s.refused:.1%} | {m.retry_after_s:.0f}, {s.retry_after_s:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(measured: float, simulated: float) -> str:
    ratio = simulated / measured if measured else float("nan")
    return f"{ratio:.2f}" if abs(ratio - 1) <= _WITHIN else f"**{ratio:.2f}**"
