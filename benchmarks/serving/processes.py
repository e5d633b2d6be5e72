"""A server and whatever it starts: found, weighed and ended together. Knows nothing of HTTP. Linux only.

Servers of several processes let some of them loose. This process adopts whatever its descendants leave behind
(PR_SET_CHILD_SUBREAPER), so that all of them stay descendants.
"""

import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_PAUSE_S = 0.02
_TICKS_S = os.sysconf("SC_CLK_TCK")


def adopt_orphans() -> None:
    """From now on, orphaned descendants become children of this process. Raises OSError where that is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot adopt orphans")


def descendants(ancestor: int) -> list[int]:
    """All living processes below one, not itself."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError):  # it may be gone by now
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(folder.name))
    found, waiting = [], [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def memory_bytes(processes: Iterable[int]) -> int:
    """Memory of processes together: what several share counts once (the sum of their PSS)."""
    return sum(map(_pss_bytes, processes))


def processor_s(process: int) -> float:
    """What it has used of the processors so far. One that has gone counts no more."""
    with suppress(OSError):
        fields = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_S
    return 0.0


def wants_processor(process: int) -> bool:
    """Whether a thread of it runs now, or would if it were let."""
    for stat in (_PROC / str(process) / "task").glob("*/stat"):
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def end_all(spared: Collection[int] = ()) -> None:
    """End every descendant of this process at once, but those `spared`."""
    while left := [process for process in descendants(os.getpid()) if process not in spared]:
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(_PAUSE_S)
        for process in left:
            with suppress(ChildProcessError):  # not a child of ours, or not yet
                os.waitpid(process, os.WNOHANG)


def _pss_bytes(process: int) -> int:
    try:
        lines = (_PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
