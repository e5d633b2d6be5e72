"""Everything that was measured of one machine, round by round, as a file keeps it: what follows can be found anew."""

import json
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.fleet.measuring import Bare
from benchmarks.fleet.observed import Figures, Load
from benchmarks.fleet.speeds import Speeds, joined, relative
from benchmarks.fleet.threads import Used

CLOSED, OPEN = (1, 8, 32), (0.5, 0.8, 1.5, 2.0)
MANY, BEYOND = 64, 4.0


@dataclass(frozen=True)
class Round:
    """Bare work, loads by name (each with its connections, or its requests a second), and how fast the CPUs were.

    traces: before each load in their order, and after the last. idle_wake_s: of a CPU.
    """

    bare: Bare
    loads: dict[str, tuple[float, Load]]
    traces: tuple[Speeds, ...] = ()
    idle_wake_s: float = 0.0

    def load(self, name: str) -> Load:
        """What the service did under it."""
        return self.loads[name][1]

    def speeds(self, name: str) -> Speeds:
        """Of the CPUs just before and after a load, where those that parameters are taken from have a mean of 1."""
        if not self.traces:
            return ()
        taken_from = (closed_name(1), closed_name(MANY), open_name(BEYOND))
        return relative(joined(self._around(name)), chain.from_iterable(map(self._around, taken_from)))

    def all_speeds(self) -> Speeds:
        """Of the whole round, as a share of their mean."""
        return relative(joined(self.traces), self.traces) if self.traces else ()

    def _around(self, name: str) -> tuple[Speeds, ...]:
        at = list(self.loads).index(name)
        return self.traces[at : at + 2]


@dataclass(frozen=True)
class Machine:
    """One service on one machine. `seconds`: of a window; `deadline_s`: of each request in an open loop.

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

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def closed_name(connections: int) -> str:
    """A closed loop's."""
    return f"closed, {connections}"


def open_name(times: float) -> str:
    """An open loop's, by the multiple of the capacity."""
    return f"open, {times:g} times"


def read(path: Path) -> Machine:
    """As `write` has left it."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Machine(**{**values, "rounds": tuple(_round(one) for one in values["rounds"])})


def _round(values: dict[str, Any]) -> Round:
    bare = Bare(**{**values["bare"], "decode_s": tuple(values["bare"]["decode_s"])})
    traces = tuple(tuple(map(tuple, trace)) for trace in values.get("traces", ()))
    loads = {name: (load, _load(found)) for name, (load, found) in values["loads"].items()}
    return Round(bare, loads, traces, values.get("idle_wake_s", 0.0))


def _load(values: dict[str, Any]) -> Load:
    return Load(**{**values, "figures": Figures(**values["figures"]), "used": Used(**values["used"])})
