"""How much processor and memory this process may use, and what its processor can do. Knows nothing of engines.

Limits are those of the control groups around it, in either version.
"""

import math
import os
import platform
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED_BYTES = 1 << 60  # version 1 says "no limit" with a number beyond any memory
_CPUINFO = Path("/proc/cpuinfo")
_INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx2")  # best first


def usable_cpus(cgroup: Path = MOUNT, membership: Path = MEMBERSHIP) -> int:
    """CPUs this process may keep busy: its affinity, and the container's quota (cgroup v2 or v1) rounded up.

    `cgroup` is where cgroups are mounted, `membership` names this process's own. Every group around it counts, too.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup, membership)
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def share_of_cpus(number: int, workers: int, cpus: Collection[int]) -> set[int]:
    """The CPUs of worker `number` of so many, where `cpus` are shared out: neighbours, which share caches.

    Each CPU is one worker's; where there are more workers than CPUs, each worker has one of them.
    """
    in_order = sorted(cpus)
    if workers >= len(in_order):
        return {in_order[number % len(in_order)]}
    return set(in_order[number * len(in_order) // workers : (number + 1) * len(in_order) // workers])


def memory_bytes(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int | None:
    """The least memory limit of this process's group and of those around it; None without any."""
    limits = [
        limit for folder in cgroup_folders("memory", mount, membership) if (limit := _memory_of(folder)) is not None
    ]
    return min(limits, default=None)


def instances_and_threads(cpus: int, instances: int, threads: int) -> tuple[int, int]:
    """How many runs side by side, with how many threads each, keep `cpus` busy. 0 instances or threads are chosen.

    Runs of one thread side by side give the most pictures a second: threads of one run wait for each other.
    """
    if instances == 0:
        threads = threads or 1
        return max(1, cpus // threads), threads
    return instances, threads or max(1, cpus // instances)


def int8_instructions(cpuinfo: Path = _CPUINFO) -> str | None:
    """The best instructions the processor has to multiply bytes with, as /proc/cpuinfo names them; None without any.

    VNNI on x86 and the dot product on Arm make int8 two to three times as fast as fp32, AVX2 about 1.3 times.
    """
    try:
        words = frozenset(cpuinfo.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return "asimddp" if platform.machine() == "arm64" else None  # Apple's processors have no /proc
    return next((name for name in _INT8_INSTRUCTIONS if name in words), None)


def cgroup_folders(controller: str, mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """The folders of this process's groups under `controller`, "cpu" or "memory", and of all those around them.

    A container may see its own group at the top of the tree and be told of a path outside; what is not there is left.
    """
    yield from (mount, mount / controller)
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and controller not in controllers.split(","):
            continue
        for top in dict.fromkeys((mount / controllers, mount / controller) if controllers else (mount,)):
            inside = PurePosixPath(path.lstrip("/"))
            yield from (top / folder for folder in (inside, *inside.parents) if ".." not in folder.parts)


def _memory_of(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = (folder / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < _UNLIMITED_BYTES:
            return int(limit)
    return None


def _quota(cgroup: Path, membership: Path) -> float | None:
    """CPUs that the process's cgroup and all those around it leave it: the least of them; None without any limit."""
    quotas = map(_quota_of, cgroup_folders("cpu", cgroup, membership))
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
