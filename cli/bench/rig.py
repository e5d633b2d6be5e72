"""The engines that are compared: every precision of a bundle, in every sensible split of the CPUs. Knows no clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.engine.engine import Engine, EngineOptions, best_batch_size, find_graphs, open_engine
from app.engine.runners import Outputs, Patches
from app.errors import EngineError
from model.spec import ModelSpec, Precision

Open = Callable[[EngineOptions], Engine]


@dataclass(frozen=True)
class Split:
    """How many runs go on side by side, and how many CPU threads each has."""

    instances: int
    threads: int


@dataclass(frozen=True)
class Opened:
    """An engine in one split. `run` may be called from `split.instances` threads at once."""

    precision: Precision
    split: Split
    run: Callable[[Sequence[Patches]], Outputs]


@dataclass(frozen=True)
class Rig:
    """All that was opened. `precision`, `split` and `batch_size` (its largest run) are the service's own choice.

    refused: precision and why.
    """

    spec: ModelSpec
    provider: str
    precision: Precision
    split: Split
    batch_size: int
    opened: tuple[Opened, ...]
    refused: dict[Precision, str] = field(default_factory=dict)
    precision_reason: str = ""

    def at_work(self, cpus: int) -> list[Opened]:
        """The service's precision in the splits that leave no CPU idle; on a GPU, in the only one."""
        return [
            one
            for one in self.opened
            if one.precision == self.precision
            and (self.provider != "cpu" or one.split.instances * one.split.threads >= cpus or one.split == self.split)
        ]


def splits(cpus: int) -> list[Split]:
    """One thread alone, one run of all CPUs, a run on each, and the even splits between: for 4, 1x1 1x4 2x2 4x1."""
    even = [Split(instances, cpus // instances) for instances in range(1, cpus + 1) if cpus % instances == 0]
    return list(dict.fromkeys([Split(1, 1), *even]))


def set_up(
    bundle: Path, *, provider: str, precision: str, max_batch_size: int, cpus: int, open_one: Open = open_engine
) -> Rig:
    """Open what the service would choose, then everything to compare it with.

    Raises: EngineError where the service would not start. A precision that nobody asked for may be refused.
    """
    options = EngineOptions(bundle, provider=provider, precision=precision, max_batch_size=max_batch_size)
    service = open_one(options)
    chosen = Split(service.instances, max(1, cpus // service.instances) if service.provider == "cpu" else 1)
    compared = list(dict.fromkeys([*splits(cpus), chosen])) if service.provider == "cpu" else [chosen]
    precisions = list(find_graphs(bundle)) if precision == "auto" else [service.precision]
    opened: list[Opened] = []
    refused: dict[Precision, str] = {}
    for each in precisions:
        try:
            opened += _in_every_split(service, each, chosen, compared, options, open_one)
        except EngineError as error:
            if each == service.precision:
                raise
            refused[each] = str(error)
    batch_size = min(max_batch_size, best_batch_size(service.provider, service.spec))
    return Rig(
        service.spec,
        service.provider,
        service.precision,
        chosen,
        batch_size,
        tuple(opened),
        precision_reason=service.precision_reason,
        refused=refused,
    )


def _in_every_split(
    service: Engine,
    precision: Precision,
    chosen: Split,
    compared: Sequence[Split],
    options: EngineOptions,
    open_one: Open,
) -> list[Opened]:
    """Splits of equally many threads share an engine, opened for the most instances among them."""
    engines: dict[int, Engine] = {chosen.threads: service} if precision == service.precision else {}
    for split in sorted(compared, key=lambda split: -split.instances):
        if split.threads not in engines or engines[split.threads].instances < split.instances:
            wanted = replace(
                options,
                provider=service.provider,
                precision=precision,
                instances=split.instances,
                intra_op_threads=split.threads,
            )
            engines[split.threads] = open_one(wanted)
    return [Opened(engines[split.threads].precision, split, engines[split.threads].run) for split in compared]
