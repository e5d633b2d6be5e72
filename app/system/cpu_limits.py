"""How much processor this process may use, and what it can do. Knows nothing of engines."""

import math
import os
import platform
from pathlib import Path

from app.system import cgroups

_CPUINFO = Path("/proc/cpuinfo")
_INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx2")  # best first


def usable_cpus(cgroup: Path = cgroups.MOUNT, membership: Path = cgroups.MEMBERSHIP) -> int:
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


def int8_instructions(cpuinfo: Path = _CPUINFO) -> str | None:
    """The best instructions the processor has to multiply bytes with, as /proc/cpuinfo names them; None without any.

    VNNI on x86 and the dot product on Arm make int8 two to three times as fast as fp32, AVX2 about 1.3 times.
    """
    try:
        words = frozenset(cpuinfo.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return "asimddp" if platform.machine() == "arm64" else None  # Apple's processors have no /proc
    return next((name for name in _INT8_INSTRUCTIONS if name in words), None)


def _quota(cgroup: Path, membership: Path) -> float | None:
    """CPUs that the process's cgroup and all those around it leave it: the least of them; None without any limit."""
    quotas = map(_quota_of, cgroups.folders("cpu", cgroup, membership))
    return min((quota for quota in quotas if quota is not None), default=None)


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
