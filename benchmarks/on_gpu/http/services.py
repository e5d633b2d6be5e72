"""The services of the section `http` of gpu.py: started as asked, each with what it takes, and ended whatever happens.

A service runs from the repository with the packages of the process that starts it; mixer-serve need not be installed.
Knows no loads, no torch, and of a GPU only what it is handed: how much memory of the device is in use.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.request import urlopen

from benchmarks.serving.configurations import OURS, Configuration
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import adopt_orphans, descendants, end_all, memory_bytes
from benchmarks.serving.server import START_TIMEOUT_S, serving
from benchmarks.serving.workloads import Workload

_PATIENCE_S = 30.0
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
class Started:
    """A service that answers. `memory_bytes`: of the device, all workers together; on a CPU of the processes."""

    port: int
    processes: tuple[int, ...]
    startup_s: float
    memory_bytes: int


def started(stack: ExitStack, plan: Plan, model: Model, workers: int) -> Started:
    """A service of so many workers that is ready and runs as it was asked to; it ends with `stack`.

    Raises: StartFailed, ValueError or OSError where it is not.
    """
    others = set(descendants(os.getpid()))
    before = 0 if plan.used_bytes is None else plan.used_bytes()
    log = plan.work / f"service-{model.bundle.name}-{workers}.txt"
    patience_s = max(1.0, min(START_TIMEOUT_S, plan.until - time.monotonic()))
    service = configuration(plan, model, workers)
    probe = model.workload.probe("raw")
    server = stack.enter_context(serving(service, Path(sys.executable).parent, probe, log, patience_s))
    processes = tuple(process for process in descendants(os.getpid()) if process not in others)
    _expect_as_asked(server.port, plan, model, workers, processes)
    used = memory_bytes(processes) if plan.used_bytes is None else plan.used_bytes() - before
    return Started(server.port, processes, server.startup_s, used)


def configuration(plan: Plan, model: Model, workers: int) -> Configuration:
    python = (sys.executable, "-m", "cli", "serve", "--port", "{port}")
    guard = shutil.which("setpriv")
    command = python if guard is None else (guard, "--pdeathsig", "TERM", *python)
    variables = {
        "MIXER_BUNDLE": str(model.bundle.resolve()),
        "MIXER_PRECISION": model.precision,
        "MIXER_PROVIDER": plan.provider,
        "MIXER_WORKERS": str(workers),
        "MIXER_LOG_LEVEL": "warning",
        "PYTHONPATH": os.pathsep.join(import_path(plan.work)),
        "LD_LIBRARY_PATH": os.pathsep.join(library_path()),
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
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=_PATIENCE_S) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def import_path(work: Path) -> list[str]:
    """Where the service finds its packages: where this process does. The repository's code comes first."""
    of_the_script = ROOT / "benchmarks"  # Python puts it first
    own = [str(Path(entry).resolve()) for entry in sys.path if entry]
    return [str(ROOT), *_about_the_package(work), *(entry for entry in own if Path(entry) != of_the_script)]


def library_path() -> list[str]:
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
