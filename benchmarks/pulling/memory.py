"""The largest resident memory of a service, and of the process beside it that makes its bundle."""

import re
from pathlib import Path


class Memory:
    """In bytes. `look` is called again and again: a process that has ended tells nothing."""

    def __init__(self) -> None:
        self.service = 0
        self.maker = 0

    def look(self, first: int) -> None:
        """Note what the process and all that it has started have taken at most until now."""
        for pid in _with_descendants(first):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            peak = int(found[1]) << 10 if found else 0
            if b"pull" in words:
                self.maker = max(self.maker, peak)
            else:
                self.service = max(self.service, peak)


def _with_descendants(first: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found = [first]
    for pid in found:
        found += children.get(pid, [])
    return found
