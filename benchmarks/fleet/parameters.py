"""What was measured of one service, as the simulation uses it. Knows nothing of how it was measured."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.fleet.speeds import Speeds

COMMITTED = Path(__file__).parent / "parameters.json"


@dataclass(frozen=True)
class Parameters:
    """Seconds of one CPU that nothing else slows, unless it says otherwise.

    `run_s` + n * `image_s`: a run of n images, which varies by `run_spread` (standard deviation of its logarithm).
    `decode_s`: by picture, one of which each request brings. `accept_s`, `answer_s`: of the event loop, for a request's
    head and body, and for its answer. `wake_s`: for the event loop to wake up.
    `refuse_s`: a refusal. `client_s`: of a client on the same machine, each way; `client_wake_s`: for it to wake up.
    `together`: as of Processors.
    `max_batch_size`, `queue_capacity`, `workers`, `cpus`: of the service that was measured.
    `speeds`: of each CPU in windows of Speeds, all of it 1 where there are none.
    `idle_wake_s`: until an idle CPU runs a thread that is wakened.
    `is_pinned`: whether each worker keeps to a CPU of its own.
    `ready_s`: from a process's start to readiness, by the clock; `drain_s`: from SIGTERM to its end, without requests.
    """

    run_s: float
    image_s: float
    decode_s: tuple[float, ...]
    accept_s: float
    answer_s: float
    wake_s: float
    refuse_s: float
    client_s: float
    together: float
    max_batch_size: int
    cpus: int
    workers: int
    ready_s: float
    drain_s: float
    run_spread: float = 0.0
    queue_capacity: int = 512
    speeds: Speeds = ()
    idle_wake_s: float = 0.0
    client_wake_s: float = 0.0
    is_pinned: bool = False
    circumstances: dict[str, Any] = field(default_factory=dict)

    @property
    def request_s(self) -> float:
        """Of one request in full batches, on the service's side, wake-ups aside."""
        run_s = self.image_s + self.run_s / self.max_batch_size
        return run_s + sum(self.decode_s) / len(self.decode_s) + self.accept_s + self.answer_s

    def capacity_s(self, cpus: int | None = None) -> float:
        """Images a second of so many CPUs with nothing else to do."""
        cpus = self.cpus if cpus is None else cpus
        return cpus * (self.together if cpus > 1 else 1.0) / self.request_s

    def on_cpus_of(self, speed: float) -> "Parameters":
        """The same work on CPUs that are as fast as that; those of this are at 1."""
        times = ("run_s", "image_s", "accept_s", "answer_s", "wake_s", "refuse_s", "client_s", "client_wake_s")
        slower = {name: getattr(self, name) / speed for name in times}
        return replace(self, decode_s=tuple(each / speed for each in self.decode_s), **slower)

    def write(self, path: Path) -> None:
        """As JSON."""
        values = asdict(self)
        values["speeds"] = [" ".join(f"{each:g}" for each in of_cpu) for of_cpu in self.speeds]  # a line for each CPU
        path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read(path: Path = COMMITTED) -> Parameters:
    """As `write` has left them."""
    values = json.loads(path.read_text(encoding="utf-8"))
    speeds = tuple(tuple(map(float, of_cpu.split())) for of_cpu in values.pop("speeds", ()))
    return Parameters(**{**values, "decode_s": tuple(values["decode_s"]), "speeds": speeds})
