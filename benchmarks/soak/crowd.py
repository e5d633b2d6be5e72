"""Clients at work: each on a connection of its own, sending one errand after the other, and coming back as a load
balancer would. Knows nothing of when services are killed or replaced."""

import asyncio
import time
from collections.abc import Callable
from random import Random

from benchmarks.soak.errands import MARK, Errand, Traffic
from benchmarks.soak.instances import Address, Instance
from benchmarks.soak.ledger import LEFT, LOST, RIGHT, WRONG, Ledger
from benchmarks.soak.wire import Answer, BrokenError, Link, NotConnectedError

_TRIES = 20
_PAUSE_S = 0.1  # before coming back to a service that was not there, or did not want to
_LONGEST_PAUSE_S = 2.0
_REFUSALS = (429, 503)


class Crowd:
    """Clients that draw errands until `goes_on` says no. `sent`: how many they have finished."""

    def __init__(
        self, address: Address, traffic: Traffic, ledger: Ledger, rng: Random, goes_on: Callable[[int], bool]
    ) -> None:
        self._address = address
        self._traffic = traffic
        self._ledger = ledger
        self._rng = rng
        self._goes_on = goes_on
        self._drawn = 0
        self.sent = 0
        self._working = 0
        self._gate = asyncio.Event()
        self._gate.set()
        self._nobody = asyncio.Event()

    async def run(self, clients: int) -> None:
        """Until all is sent and answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(Worker(self, sticks=number % 2 == 1).run())

    async def pause(self) -> None:
        """Until every client has its answer and has hung up; nobody sends before `resume`."""
        self._gate.clear()
        if self._working:
            self._nobody.clear()
            await self._nobody.wait()

    def resume(self) -> None:
        """Go on."""
        self._gate.set()

    async def next_errand(self, worker: "Worker") -> tuple[int, Errand] | None:
        """The next one, when it is time; None when there is no more."""
        if not self._gate.is_set():
            worker.hang_up()
            self._leave()
            await self._gate.wait()
            self._working += 1
        if not self._goes_on(self._drawn):
            return None
        self._drawn += 1
        return self._drawn, self._traffic.draw(self._rng)

    def enter(self) -> None:
        """One more client is at work."""
        self._working += 1

    def leave(self) -> None:
        """A client has done its work."""
        self._leave()

    @property
    def ledger(self) -> Ledger:
        """Where outcomes are noted."""
        return self._ledger

    @property
    def instance(self) -> Instance:
        """Where new connections go."""
        return self._address.current

    def _leave(self) -> None:
        self._working -= 1
        if not self._working:
            self._nobody.set()


class Worker:
    """One client. `sticks`: it stays with its connection as long as that is open, wherever new ones go."""

    def __init__(self, crowd: Crowd, *, sticks: bool) -> None:
        self._crowd = crowd
        self._sticks = sticks
        self._link: Link | None = None
        self._instance: Instance

    async def run(self) -> None:
        """One errand after the other."""
        self._crowd.enter()
        try:
            while (drawn := await self._crowd.next_errand(self)) is not None:
                await self._see_to(*drawn)
                self._crowd.sent += 1
        finally:
            self.hang_up()
            self._crowd.leave()

    def hang_up(self) -> None:
        """Let go of the connection."""
        if self._link is not None and self._link.is_open:
            self._link.close()
        self._link = None

    async def _see_to(self, number: int, errand: Errand) -> None:
        """Try until there is an answer that counts."""
        for attempt in range(_TRIES):
            mark = b"soak-%08d-%02d" % (number, attempt)
            try:
                link = await self._connected()
                outcome = await self._attempt(link, errand, mark)
            except NotConnectedError:
                self._crowd.ledger.detours["refused a connection"] += 1
                await asyncio.sleep(_PAUSE_S)
                continue
            except BrokenError as error:
                outcome = self._broken(link, error, mark)
            if outcome is not None:
                self._crowd.ledger.note(errand.kind, *outcome)
                return
        self._crowd.ledger.note(errand.kind, LOST, f"no answer after {_TRIES} tries")

    async def _connected(self) -> Link:
        """The connection there is, or one to the service of the moment."""
        is_current = self._link is not None and (self._sticks or self._instance is self._crowd.instance)
        if self._link is not None and self._link.is_open and is_current:
            return self._link
        self.hang_up()
        self._instance = self._crowd.instance
        self._link = await Link.to(self._instance.port)
        return self._link

    async def _attempt(self, link: Link, errand: Errand, mark: bytes) -> tuple[str, str] | None:
        """Outcome and why; None: come again. Raises BrokenError."""
        pieces = [piece.replace(MARK, mark) if not number else piece for number, piece in enumerate(errand.pieces)]
        await link.send(pieces, errand.pause_s)
        if errand.behaviour != "waits":
            (link.reset if errand.behaviour.startswith("resets") else link.close)()
            return LEFT, ""
        wrongs = []
        for expectation in errand.expectations:
            answer = await link.answer()
            if answer.status in _REFUSALS:
                await self._refused(link, answer)
                return None
            wrongs.append(expectation(answer) or _of_another(answer, mark))
        if errand.hangs_up:
            link.close()
        wrong = next((f"{each} ({mark.decode()})" for each in wrongs if each), "")
        return (WRONG, wrong) if wrong else (RIGHT, "")

    async def _refused(self, link: Link, answer: Answer) -> None:
        """Not now, or not here: a service that stops sends everyone to another one."""
        link.close()
        if self._instance.stopped_at is not None:
            self._crowd.ledger.detours["refused by a service that stops"] += 1
            return
        self._crowd.ledger.detours[f"refused with {answer.status}"] += 1
        await asyncio.sleep(_pause_s(answer))

    def _broken(self, link: Link, error: BrokenError, mark: bytes) -> tuple[str, str] | None:
        """Whether that was to be expected: None, come again; or the request is lost."""
        instance = self._instance
        if instance.was_killed_since(link.alive_at):
            self._crowd.ledger.detours["broken by kill -9"] += 1
            return None
        if instance.stopped_at is not None and not error.began:
            instance.unanswered.append(mark)
            self._crowd.ledger.detours["closed by a service that stops"] += 1
            return None
        return LOST, f"{error} ({mark.decode()} at {instance.name}, {time.monotonic() - link.alive_at:.2f} s)"


def _of_another(answer: Answer, mark: bytes) -> str:
    """Whether it is the answer to somebody else's request."""
    return "" if mark in answer.head else f"the answer has not the request's id: {answer.head[:300]!r}"


def _pause_s(answer: Answer) -> float:
    lines = answer.head.lower().split(b"\r\n")
    told = [line.partition(b":")[2] for line in lines if line.startswith(b"retry-after:")]
    return min(_LONGEST_PAUSE_S, float(told[0])) if told and told[0].strip().isdigit() else _PAUSE_S
