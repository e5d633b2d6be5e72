"""How much processor this process may use, and what it can do. Knows nothing of engines."""

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "asimddp", "i8mm"})


def usable_cpus(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> int:
    """CPUs this process may keep busy: its affinity, and the container's quota (cgroup v2 or v1) rounded up.

    `cgroup` is where cgroups are mounted, `membership` names this process's own. Every group around it counts, too.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup, membership)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def lanes_and_threads(cpus: int, lanes: int, threads: int) -> tuple[int, int]:
    """How many runs side by side, with how many threads each, keep `cpus` busy. 0 lanes or threads are chosen.

    Runs of one thread side by side give the most pictures a second: threads of one run wait for each other.
    """
    if lanes == 0:
        threads = threads or 1
        return max(1, cpus // threads), threads
    return lanes, threads or max(1, cpus // lanes)


def has_int8_instructions(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies bytes natively (VNNI on x86, dot product on Arm)."""
    try:
        words = cpuinfo.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return platform.machine() == "arm64"  # Apple's processors have the dot product, and no /proc
    return not _INT8_FLAGS.isdisjoint(words)


def _quota(cgroup: Path, membership: Path) -> float | None:
    """CPUs that the process's cgroup and all those around it leave it: the least of them; None without any limit."""
    quotas = [quota for folder in _folders(cgroup, membership) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _folders(cgroup: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's cgroups, in either version, and of all those around them.

    A container may see its own group at the top of the tree and be told of a path outside; what is not there is left.
    """
    yield from (cgroup, cgroup / "cpu")
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in dict.fromkeys((cgroup / controllers, cgroup / "cpu") if controllers else (cgroup,)):
            inside = PurePosixPath(path.lstrip("/"))
            yield from (mount / folder for folder in (inside, *inside.parents) if ".." not in folder.parts)


def _quota_of(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        limit, period = _quota_v1(folder)
    return float(limit) / float(period) if limit.isdigit() and period.isdigit() and float(period) > 0 else None


def _quota_v1(folder: Path) -> tuple[str, str]:
    try:
        return (folder / "cpu.cfs_quota_us").read_text().strip(), (folder / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return "max", "1"
