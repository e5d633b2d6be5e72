"""What a client and a server take of the processor, as the system counts it. Linux only."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.serving.processes import processor_s


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
        self._server = server

    def used(self) -> Used:
        """So far. A server's process that has gone counts no more."""
        return Used(time.process_time(), sum(map(processor_s, self._server)))
