"""The control groups around this process, in either version: which folders tell its limits. Knows nothing of CPUs."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_UNLIMITED_BYTES = 1 << 60  # version 1 says "no limit" with a number beyond any memory


def folders(controller: str, mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Iterator[Path]:
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


def memory_bytes(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int | None:
    """The least memory limit of this process's group and of those around it; None without any."""
    limits = [limit for folder in folders("memory", mount, membership) if (limit := _memory_of(folder)) is not None]
    return min(limits, default=None)


def _memory_of(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = (folder / name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and int(limit) < _UNLIMITED_BYTES:
            return int(limit)
    return None
