"""How much processor this process may use, and what it can do. Knows nothing of engines."""

import math
import os
import platform
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CPUINFO = Path("/proc/cpuinfo")
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "asimddp", "i8mm"})


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """CPUs this process may keep busy: its affinity, and the container's quota (cgroup v2 or v1) rounded up."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def has_int8_instructions(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor multiplies bytes natively (VNNI on x86, dot product on Arm)."""
    try:
        words = cpuinfo.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return platform.machine() == "arm64"  # Apple's processors have the dot product, and no /proc
    return not _INT8_FLAGS.isdisjoint(words)


def _quota(cgroup: Path) -> float | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        limit, period = _quota_v1(cgroup)
    return float(limit) / float(period) if limit.isdigit() and float(period) > 0 else None


def _quota_v1(cgroup: Path) -> tuple[str, str]:
    folder = cgroup / "cpu"
    try:
        return (folder / "cpu.cfs_quota_us").read_text().strip(), (folder / "cpu.cfs_period_us").read_text().strip()
    except OSError:
        return "max", "1"
