"""Where new connections go: the pods that are ready, as a node knows them a while later. Knows no requests.

A cluster's nodes send each connection to one pod, and what is sent on it goes there as long as it is open; that a pod
goes, they learn from the API server, a second or so after the pod does.
"""

import asyncio
from random import Random

from benchmarks.rollout.pod import Pod


class Endpoints:
    """The addresses of a Service on a node."""

    def __init__(self, lag_s: float, random: Random) -> None:
        self._lag_s, self._random = lag_s, random
        self._pods: dict[str, Pod] = {}
        self._changed = asyncio.Condition()
        self._news: set[asyncio.Task[None]] = set()

    def follow(self, pod: Pod) -> None:
        """A pod became ready, unready or begins to end: known here up to `lag_s` later."""
        serves = pod.is_ready and not pod.is_terminating
        news = asyncio.create_task(self._apply(pod, serves, self._random.uniform(0.5, 1) * self._lag_s))
        self._news.add(news)
        news.add_done_callback(self._news.discard)

    def pick(self) -> str:
        """The address for a new connection. Raises ConnectionRefusedError where there is none."""
        if not self._pods:
            raise ConnectionRefusedError("No pod is ready.")
        return self._random.choice(list(self._pods.values())).address

    async def expect(self, count: int) -> None:
        """Until so many pods get connections."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._pods) >= count)

    async def _apply(self, pod: Pod, serves: bool, lag_s: float) -> None:
        await asyncio.sleep(lag_s)
        async with self._changed:
            if serves:
                self._pods[pod.name] = pod
            else:
                self._pods.pop(pod.name, None)
            self._changed.notify_all()
