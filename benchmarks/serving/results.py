"""What was found, turn by turn, and what it comes to: medians, spreads, ratios. Knows nothing of how it is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.serving.cells import Cell
from benchmarks.serving.client import Outcome
from benchmarks.serving.configurations import OURS


@dataclass(frozen=True)
class Run:
    """One measurement. `ceiling`: images/s of the bare threads in the same turn."""

    cell: Cell
    outcome: Outcome
    ceiling: float

    @property
    def share(self) -> float:
        """Of the ceiling."""
        return self.outcome.images_s / self.ceiling


@dataclass
class Turn:
    """One server in one round. `failure`: why it did not start."""

    number: int
    model: str
    configuration: str
    peer: str
    ceilings: dict[str, float]
    startup_s: float | None = None
    memory_bytes: int | None = None
    failure: str | None = None
    runs: list[Run] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Everything, and what follows from it."""
        runs = [
            {
                **asdict(run.cell),
                **asdict(run.outcome),
                "images_s": run.outcome.images_s,
                "share": run.share,
                "fault": run.outcome.fault,
            }
            for run in self.runs
        ]
        return {**asdict(self), "runs": runs}


@dataclass(frozen=True)
class Spread:
    """Figures of several rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return median(self.rounds)

    @property
    def half(self) -> float:
        """Half the distance from the least to the most, as a fraction of the median."""
        return (max(self.rounds) - min(self.rounds)) / 2 / self.median if self.median else 0.0


@dataclass(frozen=True)
class Figure:
    """One configuration in one cell, over all rounds. Any `fault` disqualifies it there."""

    images_s: Spread
    share: Spread
    p50_ms: Spread
    p95_ms: Spread
    p99_ms: Spread
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Duel:
    """This service's best configuration in a cell against the best of all its peers'."""

    ours: str
    share: float
    theirs: str
    ratio: float


class Results:
    """All turns so far."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = tuple(turns)

    def models(self) -> list[str]:
        """In the order of their turns."""
        return _distinct(turn.model for turn in self.turns)

    def configurations(self, model: str) -> list[str]:
        """In the order of their first turns."""
        return _distinct(turn.configuration for turn in self.turns if turn.model == model)

    def cells(self) -> list[Cell]:
        """Those that anyone was measured in."""
        return sorted({run.cell for turn in self.turns for run in turn.runs})

    def model_of(self, workload: str) -> str:
        """Whose pictures they are."""
        return next(turn.model for turn in self.turns if workload in turn.ceilings)

    def peer_of(self, configuration: str) -> str:
        """Whose configuration it is."""
        return next(turn.peer for turn in self.turns if turn.configuration == configuration)

    def figure(self, configuration: str, cell: Cell) -> Figure | None:
        """None where it was not measured."""
        runs = list(self._runs(configuration, cell).values())
        if not runs:
            return None
        outcomes = [run.outcome for run in runs]
        return Figure(
            images_s=Spread(tuple(outcome.images_s for outcome in outcomes)),
            share=Spread(tuple(run.share for run in runs)),
            p50_ms=Spread(tuple(outcome.p50_ms for outcome in outcomes)),
            p95_ms=Spread(tuple(outcome.p95_ms for outcome in outcomes)),
            p99_ms=Spread(tuple(outcome.p99_ms for outcome in outcomes)),
            faults=tuple(fault for outcome in outcomes if (fault := outcome.fault) is not None),
        )

    def best(self, cell: Cell, peers: Iterable[str]) -> str | None:
        """The configuration with the highest median among those of `peers` that are not disqualified."""
        wanted = set(peers)
        rates = {
            name: figure.images_s.median
            for name in self.configurations(self.model_of(cell.workload))
            if self.peer_of(name) in wanted and (figure := self.figure(name, cell)) is not None and not figure.faults
        }
        return max(rates, key=lambda name: rates[name], default=None)

    def duel(self, cell: Cell) -> Duel | None:
        """The ratio is taken round by round, then its median. None where there is nobody to compare."""
        others = {turn.peer for turn in self.turns} - {OURS}
        ours, theirs = self.best(cell, [OURS]), self.best(cell, others)
        if ours is None or theirs is None:
            return None
        mine, yours = self._runs(ours, cell), self._runs(theirs, cell)
        ratios = [mine[number].outcome.images_s / yours[number].outcome.images_s for number in mine if number in yours]
        return Duel(ours, median(run.share for run in mine.values()), theirs, median(ratios)) if ratios else None

    def ceiling(self, workload: str) -> Spread:
        """Of the bare threads, over all turns."""
        return Spread(tuple(turn.ceilings[workload] for turn in self.turns if workload in turn.ceilings))

    def startup_s(self, model: str, configuration: str) -> Spread | None:
        """From the command to the first 200."""
        return self._spread(model, configuration, "startup_s")

    def memory_bytes(self, model: str, configuration: str) -> Spread | None:
        """Of all processes, after the last measurement."""
        return self._spread(model, configuration, "memory_bytes")

    def faults(self) -> list[str]:
        """Every run that was disqualified and every server that did not start, in words."""
        found = []
        for turn in self.turns:
            if turn.failure is not None:
                found.append(f"{turn.configuration} with {turn.model}, round {turn.number + 1}: {turn.failure}")
            for run in turn.runs:
                if (fault := run.outcome.fault) is not None:
                    where = f"{run.cell.workload}, {run.cell.body}, {run.cell.connections} connections"
                    found.append(f"{turn.configuration}, {where}, round {turn.number + 1}: {fault}")
        return found

    def _runs(self, configuration: str, cell: Cell) -> dict[int, Run]:
        turns = (turn for turn in self.turns if turn.configuration == configuration)
        return {turn.number: run for turn in turns for run in turn.runs if run.cell == cell}

    def _spread(self, model: str, configuration: str, name: str) -> Spread | None:
        turns = [turn for turn in self.turns if turn.model == model and turn.configuration == configuration]
        values = tuple(float(value) for turn in turns if (value := getattr(turn, name)) is not None)
        return Spread(values) if values else None


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
