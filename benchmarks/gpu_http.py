"""The whole service over HTTP, with several numbers of workers, under closed loops: the section `http` of gpu.py.

Starts services and loads them, in turns; the tables are in gpu_http_tables.py. Knows no torch, and of a GPU only what
it is handed: how much of the memory of the device is in use.

All services of a model run side by side and only one of them has clients at a time, so that a machine that changes its
speed changes it for all. Every process that is started here is ended here: after an error, a stop signal, and, where
the system has setpriv, after this process was killed.
"""

import json
import math
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, NoReturn
from urllib.request import urlopen

import numpy as np

from app.system.cpu_limits import usable_cpus
from benchmarks.fleet.observed import batches
from benchmarks.overload.client_processes import ClientProcesses, Seen
from benchmarks.overload.loops import Terms
from benchmarks.overload.requests import REFUSALS, Request, requests_of
from benchmarks.serving.configurations import OURS, Configuration
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import adopt_orphans, descendants, end_all, memory_bytes
from benchmarks.serving.server import START_TIMEOUT_S, StartFailed, serving
from benchmarks.serving.workloads import Workload

BUSY_CLIENT = 0.8  # of a core: a client process that takes more may be what limits the rate
_CONNECTIONS_A_CLIENT = 16
_CPUS_A_CLIENT = 4  # one client process for so many at most: it is the service that is measured
_LEAD_IN_S, _DEADLINE_S = 0.5, 30.0
_TERMINATED = 143
_DEVICES = ("CUDA_", "NVIDIA_")  # variables that say which GPU, and how it is shared

UsedBytes = Callable[[], int]


@dataclass(frozen=True)
class Model:
    """What is served. `without_http`: images/s that other sections found, by what ran."""

    name: str
    bundle: Path
    precision: str
    workload: Workload
    without_http: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is measured. `until`: time.monotonic() after which nothing new is begun. `used_bytes`: None on a CPU."""

    provider: str
    workers: Sequence[int]
    connections: Sequence[int]
    seconds: float
    rounds: int
    until: float
    work: Path
    used_bytes: UsedBytes | None

    def out_of_time(self) -> bool:
        return time.monotonic() > self.until


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


@dataclass(frozen=True)
class Started:
    """A service that answers. `memory_bytes`: of the device, all workers together; on a CPU of the processes."""

    port: int
    processes: tuple[int, ...]
    startup_s: float
    memory_bytes: int


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
                found.services[workers] = _started(stack, plan, found.model, workers)
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


# --- a service ---


def _started(stack: ExitStack, plan: Plan, model: Model, workers: int) -> Started:
    """Ready, on the provider that was asked for, with as many processes as it should have. Raises StartFailed."""
    others = set(descendants(os.getpid()))
    before = 0 if plan.used_bytes is None else plan.used_bytes()
    log = plan.work / f"service-{model.bundle.name}-{workers}.txt"
    patience_s = max(1.0, min(START_TIMEOUT_S, plan.until - time.monotonic()))
    service = _configuration(plan, model, workers)
    probe = model.workload.probe("raw")
    server = stack.enter_context(serving(service, Path(sys.executable).parent, probe, log, patience_s))
    processes = tuple(process for process in descendants(os.getpid()) if process not in others)
    _expect_as_asked(server.port, plan, model, workers, processes)
    used = memory_bytes(processes) if plan.used_bytes is None else plan.used_bytes() - before
    return Started(server.port, processes, server.startup_s, used)


def _configuration(plan: Plan, model: Model, workers: int) -> Configuration:
    python = (sys.executable, "-m", "cli", "serve", "--port", "{port}")
    guard = shutil.which("setpriv")
    command = python if guard is None else (guard, "--pdeathsig", "TERM", *python)
    variables = {
        "MIXER_BUNDLE": str(model.bundle.resolve()),
        "MIXER_PRECISION": model.precision,
        "MIXER_PROVIDER": plan.provider,
        "MIXER_WORKERS": str(workers),
        "MIXER_LOG_LEVEL": "warning",
        "PYTHONPATH": os.pathsep.join(_import_path(plan.work)),
        "LD_LIBRARY_PATH": os.pathsep.join(_library_path()),
        **{name: value for name, value in os.environ.items() if name.startswith(_DEVICES)},
    }
    return Configuration(OURS, OURS, command, variables)


def _expect_as_asked(port: int, plan: Plan, model: Model, workers: int, processes: Sequence[int]) -> None:
    """Raises ValueError where the service is not what it was asked to be."""
    _asked(port, "/health/ready")  # 503 is an error
    content = _asked(port, "/model")
    found = {name: content[name] for name in ("provider", "precision")}
    wanted = {"provider": plan.provider, "precision": model.precision}
    if found != wanted:
        raise ValueError(f"/model says {found}; expected {wanted}.")
    expected = workers + (workers > 1)  # several have a supervisor
    if len(processes) != expected:
        raise ValueError(f"the service has {len(processes)} processes; expected {expected}.")


def _asked(port: int, path: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=_DEADLINE_S) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def _import_path(work: Path) -> list[str]:
    """Where the service finds its packages: where this process does. The repository's code comes first."""
    beside_this_file = Path(__file__).resolve().parent
    own = [str(Path(entry).resolve()) for entry in sys.path if entry]
    return [str(ROOT), *_about_the_package(work), *(entry for entry in own if Path(entry) != beside_this_file)]


def _library_path() -> list[str]:
    """Where CUDA's libraries lie: in wheels that torch brings and loads.

    The service does without torch, and ONNX Runtime looks for them in its own site-packages alone.
    """
    spec = find_spec("nvidia")
    homes = [Path(home) for home in (spec.submodule_search_locations if spec else None) or []]
    folders = sorted(str(folder) for home in homes for folder in home.glob("*/lib") if folder.is_dir())
    return [*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH", "")])]


def _about_the_package(work: Path) -> list[str]:
    """A folder that tells the package's version, where it is not installed: the service asks for it."""
    try:
        version("mixer-serve")
    except PackageNotFoundError:
        folder = work / "metadata" / "mixer_serve-0.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mixer-serve\nVersion: 0\n", encoding="utf-8")
        return [str(folder.parent)]
    return []


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Whatever ends what is inside, every process that it started is ended, too; SIGTERM ends it as Ctrl-C does."""
    adopt_orphans()
    spared = frozenset(descendants(os.getpid()))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)  # until all is ended
        end_all(spared)
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(_TERMINATED)
