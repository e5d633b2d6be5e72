"""What a service, and the process beside it that makes its bundle, have taken: resident memory and processor time."""

import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    """service, maker: the largest resident memory in bytes. processor_s: of both together, until the last `look`.

    `look` is called again and again: a process that has ended tells nothing of its memory.
    """

    def __init__(self) -> None:
        self.service = 0
        self.maker = 0
        self.processor_s = 0.0

    def look(self, first: int) -> None:
        """Note what the process and all that it has started have taken until now."""
        ticks = 0
        for pid, stat in _with_descendants(first):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            ticks += sum(map(int, stat[11:15]))  # its own, and those of children that have ended
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            peak = int(found[1]) << 10 if found else 0
            if b"pull" in words:
                self.maker = max(self.maker, peak)
            else:
                self.service = max(self.service, peak)
        self.processor_s = max(self.processor_s, ticks / _TICKS)


def _with_descendants(first: int) -> list[tuple[int, list[str]]]:
    """Each process with the fields of its /proc/PID/stat after the name."""
    found: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
    pids = [first]
    for pid in pids:
        pids += [other for other, stat in found.items() if int(stat[1]) == pid]
    return [(pid, found[pid]) for pid in pids if pid in found]
