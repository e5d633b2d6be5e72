"""How much of the machine this process may use for pictures: memory and threads. Knows nothing of them."""

import os
from pathlib import Path

_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of control groups, versions 2 and 1
_SHARE = 0.5


def memory_bytes(mount: Path = Path("/sys/fs/cgroup")) -> int:
    """The machine's memory, or the container's limit where it is less."""
    amounts = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _LIMITS:
        try:
            limit = (mount / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            amounts.append(int(limit))
    return min(amounts)


def picture_bytes() -> int:
    """This process's share of it for decoded pictures: half, divided among torchrun's processes on this machine."""
    return int(memory_bytes() * _SHARE) // _processes()


def decoding_threads() -> int:
    """A thread for each CPU of this process, divided among the same."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // _processes())


def _processes() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
