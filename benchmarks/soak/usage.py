"""What a service holds: memory, threads and open files of all its processes, and how they grew. Linux only."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """Of all processes. `memory_bytes`: what several share counts once (PSS); `own_bytes`: of it, no file's content."""

    memory_bytes: int
    own_bytes: int
    threads: int
    files: int

    def growth(self, before: "Usage") -> dict[str, float]:
        """As fractions of what was held before."""
        return {
            "memory": (self.memory_bytes - before.memory_bytes) / before.memory_bytes,
            "threads": (self.threads - before.threads) / before.threads,
            "files": (self.files - before.files) / before.files,
        }


def usage(processes: Sequence[int]) -> Usage:
    """Now. A process that has just gone holds nothing."""
    folders = [_PROC / str(process) for process in processes]
    pss = [_kilobytes(folder) for folder in folders]
    return Usage(
        memory_bytes=sum(one.get("Pss", 0) for one in pss) << 10,
        own_bytes=sum(one.get("Pss_Anon", 0) for one in pss) << 10,
        threads=sum(_entries(folder / "task") for folder in folders),
        files=sum(_entries(folder / "fd") for folder in folders),
    )


def _kilobytes(folder: Path) -> dict[str, int]:
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}


def _entries(folder: Path) -> int:
    with suppress(OSError):
        return sum(1 for _ in folder.iterdir())
    return 0
