"""Two services behind nginx, restarted one after the other while clients are at work."""

import asyncio
import time
from collections.abc import Callable

from benchmarks.soak.instances import Instance, Instances
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.proxy import Proxy

ROLLING = "rolling restart"

_TICK_S = 0.02


class Rounds:
    """So many rolling restarts, each of both services, evenly over the whole. `left`: those to come, as fractions.

    `progress`: how much is done, 0 to 1. Each service is stopped, has to end with 0, and is started on the same port;
    the next one's turn comes as soon as it is ready.
    """

    def __init__(
        self, instances: Instances, proxy: Proxy, ledger: Ledger, progress: Callable[[], float], count: int
    ) -> None:
        self.left = [(number + 0.5) / count for number in range(count)]
        self._instances, self._proxy = instances, proxy
        self._ledger = ledger
        self._progress = progress
        self._pair: list[Instance] = []

    async def start(self) -> None:
        """Both services, and nginx before them. Raises InstanceFailedError."""
        self._pair = [await self._instances.start() for _ in range(2)]
        await self._proxy.start([one.port for one in self._pair])

    async def follow(self, crowd: "asyncio.Task[None]") -> None:
        """Until the crowd has done its work. Raises InstanceFailedError."""
        while not crowd.done():
            if self.left and self._progress() >= self.left[0]:
                await self._restart_all()
                self._ledger.faults[ROLLING] += 1
                del self.left[0]
            await asyncio.sleep(_TICK_S)

    async def end(self) -> None:
        """Stop everything. Raises InstanceFailedError."""
        await self._proxy.stop()
        self._ledger.sent_on = self._proxy.sent_on()
        for one in self._pair:
            await self._instances.stop(one)

    async def _restart_all(self) -> None:
        started = time.monotonic()
        for place, old in enumerate(self._pair):
            await self._instances.stop(old)
            self._pair[place] = await self._instances.start(old.port)
        self._ledger.restarts_s.append(time.monotonic() - started)
