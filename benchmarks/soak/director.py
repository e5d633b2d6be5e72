"""What happens to a service while clients are at work: it is weighed, replaced, reloads; its workers are killed."""

import asyncio
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from benchmarks.soak.crowd import Crowd
from benchmarks.soak.expectations import Oracle
from benchmarks.soak.instances import Instance, InstanceFailedError, Instances
from benchmarks.soak.ledger import LOST, Ledger, Weighing
from benchmarks.soak.shelf import Shelf
from benchmarks.soak.usage import Usage

Fault = Literal["kill", "restart", "reload"]

_TICK_S = 0.02
_REPLACED_WITHIN_S = 30.0
_RELOADED_WITHIN_S = 60.0
_LOOK_S = 0.1
_STARTING_S = 5.0  # until a worker that took over surely serves, or what was reloaded has let go of its memory
_REST_S = 0.25  # between two looks at what a service holds
_MOST_LOOKS = 20


@dataclass
class _Scale:
    """When the service of the moment is weighed: requests and a while after a fault, and at its end."""

    from_request: int
    not_before: float = 0.0
    before: Usage | None = None


def agenda(kills: int, restarts: int, reloads: int = 0) -> list[tuple[float, Fault]]:
    """Faults with their times, as fractions of the whole, evenly and by turns."""
    faults: list[tuple[float, Fault]] = [((number + 1) / (kills + 1), "kill") for number in range(kills)]
    faults += [((number + 0.5) / restarts, "restart") for number in range(restarts)]
    faults += [((number + 0.3) / reloads, "reload") for number in range(reloads)]
    return sorted(faults)


class Director:
    """Follows the agenda. `left`: faults to come. `progress`: how much is done, 0 to 1.

    `settling`: requests before a service is weighed. `shelf`: what it reloads, whose right answers the oracle knows.
    """

    def __init__(
        self,
        instances: Instances,
        crowd: Crowd,
        ledger: Ledger,
        rng: Random,
        progress: Callable[[], float],
        settling: int,
        faults: Sequence[tuple[float, Fault]],
        shelf: Shelf | None = None,
        oracle: Oracle | None = None,
    ) -> None:
        self.left = list(faults)
        self._instances = instances
        self._crowd = crowd
        self._ledger = ledger
        self._rng = rng
        self._progress = progress
        self._settling = settling
        self._shelf, self._oracle = shelf, oracle
        self._scale = _Scale(0)
        self._reloaded_at = 0.0

    async def start(self) -> None:
        """The first service. Raises InstanceFailedError."""
        self._instances.current = await self._instances.start()

    async def follow(self, crowd: "asyncio.Task[None]") -> None:
        """Until the crowd has done its work. Raises InstanceFailedError."""
        while not crowd.done():
            await self._perhaps_weigh()
            if self.left and self._progress() >= self.left[0][0]:
                fault = self.left[0][1]
                await {"kill": self._kill, "restart": self._restart, "reload": self._reload}[fault]()
                self._ledger.faults[fault] += 1
                del self.left[0]
            await asyncio.sleep(_TICK_S)

    async def end(self) -> None:
        """Weigh the last service, and stop it. Raises InstanceFailedError."""
        await self._weigh_again()
        await self._stopped(self._instances.current)

    async def _perhaps_weigh(self) -> None:
        scale, sent = self._scale, self._crowd.sent
        not_before = max(scale.not_before, self._reloaded_at + _STARTING_S)
        is_due = sent - scale.from_request >= self._settling and time.monotonic() >= not_before
        if scale.before is None and is_due:
            await self._crowd.pause()
            self._scale = _Scale(self._crowd.sent, before=await settled(self._instances.current))
            self._crowd.resume()

    async def _weigh_again(self) -> None:
        """What has grown, if enough was sent in between to tell."""
        requests = self._crowd.sent - self._scale.from_request
        if self._scale.before is not None and requests >= self._settling:
            await asyncio.sleep(self._reloaded_at + _STARTING_S - time.monotonic())
            await self._crowd.pause()
            instance = self._instances.current
            weighing = Weighing(instance.name, requests, self._scale.before, await settled(instance))
            self._ledger.weighings.append(weighing)
            self._crowd.resume()

    async def _kill(self) -> None:
        """One worker, without warning. Raises InstanceFailedError where there is only one, or none replaces it."""
        instance = self._instances.current
        workers = instance.workers()
        if len(workers) < 2:
            raise InstanceFailedError(f"{instance.name} has no worker to spare; expected MIXER_WORKERS=2 or more.")
        await self._weigh_again()
        killed = self._rng.choice(workers)
        instance.kill(killed)
        started = time.monotonic()
        while len(set(instance.workers()) - {killed}) < len(workers):
            if time.monotonic() > started + _REPLACED_WITHIN_S:
                raise InstanceFailedError(f"no worker replaced the killed one within {_REPLACED_WITHIN_S:g} s.")
            await asyncio.sleep(_TICK_S)
        self._ledger.replaced_s.append(time.monotonic() - started)
        self._scale = _Scale(self._crowd.sent, time.monotonic() + _STARTING_S)

    async def _restart(self) -> None:
        await self._weigh_again()
        started = time.monotonic()
        old = await self._instances.replace()
        self._ledger.restarts_s.append(time.monotonic() - started)
        self._judge(old)
        self._scale = _Scale(self._crowd.sent)

    async def _reload(self) -> None:
        """Another version takes over; then a broken one is refused, which changes nothing. What is weighed goes on.

        Raises: InstanceFailedError where the service does not follow.
        """
        shelf, oracle = self._shelf, self._oracle
        assert shelf is not None and oracle is not None, "there is nothing to reload; this is a bug"  # noqa: PT018
        started = time.monotonic()
        oracle.serving |= {shelf.swap()}
        await _followed(self._instances.current, "swapped")
        self._ledger.reloads_s.append(time.monotonic() - started)
        await self._crowd.pause()  # whoever came to the old version has its answer
        oracle.serving = {shelf.version}
        self._crowd.resume()
        shelf.spoil()
        await _followed(self._instances.current, "refused")
        shelf.mend()
        self._reloaded_at = time.monotonic()

    async def _stopped(self, instance: Instance) -> None:
        await self._instances.stop(instance)
        self._judge(instance)

    def _judge(self, ended: Instance) -> None:
        """Requests that broke off when it stopped are lost if it had accepted them."""
        for one in ended.accepted():
            self._ledger.note("at a planned end", LOST, f"{one.decode()} stands in the log of {ended.name}")


async def _followed(instance: Instance, outcome: str) -> None:
    """SIGHUP, until every process that serves has said what became of the bundle."""
    said, expected = instance.log.stat().st_size, len(instance.workers()) or 1
    instance.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + _RELOADED_WITHIN_S
    while len(re.findall(rb"reload: \S+ " + outcome.encode(), instance.said_since(said))) < expected:
        if time.monotonic() > until:
            raise InstanceFailedError(f"{instance.name} has not {outcome} its bundle in {_RELOADED_WITHIN_S:g} s.")
        await asyncio.sleep(_LOOK_S)


async def settled(instance: Instance) -> Usage:
    """What a service holds when it rests: when threads and open files are the same twice running."""
    seen = instance.usage()
    for _ in range(_MOST_LOOKS):
        await asyncio.sleep(_REST_S)
        now = instance.usage()
        if (now.threads, now.files) == (seen.threads, seen.files):
            return now
        seen = now
    return seen
