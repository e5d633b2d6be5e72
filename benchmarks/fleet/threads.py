"""What each kind of thread of the real service takes of the processors. Linux only; knows no requests.

A worker's main thread is its event loop; the others run batches and decode.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Used:
    """Processor seconds of all workers together."""

    loop: float = 0.0
    runs: float = 0.0

    @property
    def all(self) -> float:
        """Of all threads."""
        return self.loop + self.runs


class Threads:
    """Looks twice. `processes`: the service's, its supervisor included, which does next to nothing."""

    def __init__(self, processes: Iterable[int]) -> None:
        self._processes = list(processes)
        self._before = {process: _threads(process) for process in self._processes}

    def used(self) -> Used:
        """Since this object was made."""
        loop = runs = 0.0
        for process in self._processes:
            before = self._before[process]
            spent = {thread: now - before.get(thread, 0.0) for thread, now in _threads(process).items()}
            loop += spent.pop(process, 0.0)
            runs += sum(spent.values())
        return Used(loop, runs)


def _threads(process: int) -> dict[int, float]:
    """Seconds that each thread has run."""
    found = {}
    for folder in (_PROC / str(process) / "task").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            found[int(folder.name)] = int((folder / "schedstat").read_text().split()[0]) / 1e9
    return found


def processor_name() -> str:
    """As /proc/cpuinfo has it."""
    with suppress(OSError):
        for line in (_PROC / "cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine
