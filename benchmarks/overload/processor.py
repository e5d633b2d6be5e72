"""What a client and a server take of the processor, as the system counts it. Linux only."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Used:
    """Processor seconds, or CPUs where it is divided by time."""

    client: float = 0.0
    server: float = 0.0

    def since(self, before: "Used", seconds: float) -> "Used":
        """CPUs on average over the `seconds` from then to now."""
        return Used((self.client - before.client) / seconds, (self.server - before.server) / seconds)


class Processor:
    """This process and those of a server."""

    def __init__(self, server: Sequence[int]) -> None:
        self._stats = [Path("/proc") / str(process) / "stat" for process in server]

    def used(self) -> Used:
        """So far. A server's process that has gone counts no more."""
        return Used(time.process_time(), sum(map(_used_s, self._stats)))


def _used_s(stat: Path) -> float:
    with suppress(OSError):
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_S
    return 0.0
