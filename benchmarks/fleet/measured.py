"""Everything that was measured of one machine, round by round, as a file keeps it: what follows can be found anew."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.fleet.measuring import Bare
from benchmarks.fleet.observed import Figures, Load
from benchmarks.fleet.speeds import Speeds, joined, relative
from benchmarks.fleet.threads import Used

CLOSED, OPEN = (1, 8, 32), (0.5, 0.8, 1.5, 2.0)
MANY, BEYOND = 64, 4.0  # connections of a reference; times the capacity
ALONE = "one connection, for the parameters"  # closed, 1 is measured for itself


@dataclass(frozen=True)
class Round:
    """Bare work, a slice of each load by name (with its connections, or its requests a second), and the CPUs' speeds.

    references: closed loops of MANY connections before each load in their order, and after the last.
    traces: of the CPUs' speeds, some of each round. idle_wake_s: of a CPU.
    """

    bare: Bare
    loads: dict[str, tuple[float, Load]]
    references: tuple[Load, ...]
    traces: tuple[Speeds, ...] = ()
    idle_wake_s: float = 0.0

    def load(self, name: str) -> Load:
        """What the service did under it."""
        return self.loads[name][1]

    def around(self, name: str) -> tuple[Load, Load]:
        """The references right before a load, and right after it."""
        at = list(self.loads).index(name)
        before, after = self.references[at : at + 2]
        return before, after

    def swings(self) -> Speeds:
        """How the CPUs' speeds go up and down: each trace as a share of its own mean over all CPUs."""
        return joined(_as_shares(trace) for trace in self.traces) if self.traces else ()

    def all_speeds(self) -> Speeds:
        """Of the whole round, as a share of their mean."""
        return relative(joined(self.traces), self.traces) if self.traces else ()


def _as_shares(trace: Speeds) -> Speeds:
    mean = sum(map(sum, trace)) / sum(map(len, trace))
    return tuple(tuple(round(each / mean, 3) for each in of_cpu) for of_cpu in trace)


@dataclass(frozen=True)
class Machine:
    """One service on one machine. `seconds`: of a slice; `deadline_s`: of each request in an open loop.

    is_pinned: whether each worker kept to a CPU of its own.
    """

    circumstances: dict[str, str]
    max_batch_size: int
    cpus: int
    ready_s: float
    drain_s: float
    seconds: float
    deadline_s: float
    rounds: tuple[Round, ...]
    is_pinned: bool = False

    def shares(self) -> list[float]:
        """Of the CPUs' time, those that each reference had."""
        return [reference.share_of(self.cpus) for one in self.rounds for reference in one.references]

    def write(self, path: Path) -> None:
        """As JSON."""
        values = asdict(self)
        for one in values["rounds"]:
            for _, load in one["loads"].values():
                load["due"] = " ".join(f"{each:g}" for each in load["due"])  # a line in place of a thousand
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def closed_name(connections: int) -> str:
    """A closed loop's."""
    return f"closed, {connections}"


def open_name(times: float) -> str:
    """An open loop's, by the multiple of the capacity."""
    return f"open, {times:g} times"


def read(path: Path) -> Machine:
    """As `write` has left it. Raises ValueError where it was measured without references."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if not all("references" in one for one in values["rounds"]):
        raise ValueError(f"{path} has rounds without references; expected what `validate` measures now.")
    return Machine(**{**values, "rounds": tuple(_round(one) for one in values["rounds"])})


def as_one(machines: Sequence[Machine]) -> Machine:
    """Several runs on one machine as one, with all rounds. Raises ValueError where they differ in more than when."""
    *others, last = machines
    for one in others:
        for name in ("max_batch_size", "cpus", "seconds", "deadline_s", "is_pinned"):
            theirs, own = getattr(one, name), getattr(last, name)
            if theirs != own:
                raise ValueError(f"{name} of one run is {theirs}, of another {own}; expected runs that are alike.")
    return replace(last, rounds=tuple(chain.from_iterable(one.rounds for one in machines)))


def _round(values: dict[str, Any]) -> Round:
    bare = Bare(**{**values["bare"], "decode_s": tuple(values["bare"]["decode_s"])})
    traces = tuple(tuple(map(tuple, trace)) for trace in values["traces"])
    loads = {name: (asked, _load(found)) for name, (asked, found) in values["loads"].items()}
    return Round(bare, loads, tuple(map(_load, values["references"])), traces, values["idle_wake_s"])


def _load(values: dict[str, Any]) -> Load:
    due = values["due"].split() if isinstance(values["due"], str) else values["due"]
    parts = {"figures": Figures(**values["figures"]), "used": Used(**values["used"]), "due": tuple(map(float, due))}
    return Load(**{**values, **parts})
