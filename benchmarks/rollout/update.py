"""The controller of a Deployment: replaces each pod, as maxSurge and maxUnavailable allow. Knows no requests."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.rollout.manifest import Plan
from benchmarks.rollout.pod import Pod


class Deployment:
    """The pods of a Deployment. `network`: the first three bytes of their addresses."""

    def __init__(
        self, plan: Plan, network: str, logs: Path, variables: Mapping[str, str], tell: Callable[[Pod], None]
    ) -> None:
        self.ended: list[Pod] = []
        self._plan = plan
        self._network, self._logs, self._variables, self._tell = network, logs, variables, tell
        self._numbers = itertools.count(1)
        self._pods: list[Pod] = []
        self._endings: list[asyncio.Task[None]] = []

    async def create(self) -> None:
        """All replicas, ready. Raises PodFailedError."""
        self._pods = [await self._start() for _ in range(self._plan.replicas)]
        for pod in self._pods:
            await pod.ready()

    async def roll(self) -> None:
        """Every pod once. Raises PodFailedError.

        An old pod goes as soon as enough others are ready; the next new one does not wait until it has gone.
        """
        if self._plan.max_surge < 1 or self._plan.max_unavailable:
            raise ValueError("The Deployment lets pods be unavailable; expected maxSurge 1 and maxUnavailable 0.")
        for old in list(self._pods):
            new = await self._start()
            await new.ready()
            self._pods.remove(old)
            self._pods.append(new)
            self.ended.append(old)
            self._endings.append(asyncio.create_task(old.end()))

    async def ended_pods(self) -> None:
        """Wait for those that are on their way out. Raises PodFailedError."""
        await asyncio.gather(*self._endings)

    async def delete(self) -> None:
        """Every pod, now."""
        for ending in self._endings:
            ending.cancel()
        for pod in (*self._pods, *self.ended):
            pod.kill()

    async def _start(self) -> Pod:
        number = next(self._numbers)
        pod = Pod(
            f"mixer-{number}",
            f"{self._network}.{number}",
            self._plan.template,
            self._logs / f"mixer-{number}.log",
            self._tell,
        )
        await pod.start(self._variables)
        return pod
