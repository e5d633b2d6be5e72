"""One instance of the service: its workers, their common permits, and how it begins and ends. Knows no cluster."""

from random import Random

from app.system.quota import Quota
from benchmarks.fleet.events import Events
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.processors import Processors
from benchmarks.fleet.request import End, Request
from benchmarks.fleet.worker import Worker

_TICK_S = 0.1  # as of the service: from SIGTERM until idle connections are closed


def processors_of(events: Events, parameters: Parameters, rng: Random) -> Processors:
    """Those of a machine like the one that was measured, at some moment of what was seen of their speeds."""
    first = rng.randrange(len(parameters.speeds[0])) if parameters.speeds else 0
    return Processors(events, parameters.cpus, parameters.together, parameters.speeds, first, parameters.idle_wake_s)


class Pod:
    """Workers on processors of their own, or on those that `processors` shares with others."""

    def __init__(
        self, events: Events, parameters: Parameters, rng: Random, name: str = "", processors: Processors | None = None
    ) -> None:
        self._events, self._parameters, self._rng = events, parameters, rng
        self.name = name
        self.processors = processors or processors_of(events, parameters, rng)
        self._shares = memoryview(bytearray(8 * parameters.workers)).cast("d")
        self.workers = [self._worker(number) for number in range(parameters.workers)]
        self.is_lost = False
        self.says_close = False  # with each answer
        self._drains_since: float | None = None
        self._turn = 0

    @property
    def inside(self) -> int:
        """mixer_in_flight: requests that hold a permit."""
        return sum(worker.inside for worker in self.workers)

    @property
    def is_reachable(self) -> bool:
        """Whether a connection can be opened to it."""
        return not self.is_lost and any(not worker.is_gone for worker in self.workers)

    @property
    def is_draining(self) -> bool:
        """Whether it has been told to stop."""
        return self._drains_since is not None

    @property
    def keeps_connections(self) -> bool:
        """Whether one that rests there is still open, as far as its client can tell."""
        if self.is_lost:
            return True
        drains = self._drains_since is not None and self._events.now >= self._drains_since + _TICK_S
        return self.is_reachable and not drains

    def next_worker(self) -> Worker:
        """That of a new connection: each has about as many as the others."""
        self._turn += 1
        at_work = [worker for worker in self.workers if not worker.is_gone]
        return min(at_work, key=lambda worker: (worker.connections, (self.workers.index(worker) + self._turn) % 64))

    def receive(self, request: Request, worker: Worker | None = None) -> None:
        """A request, over a connection to that worker, or over one that a proxy keeps: they have their turns."""
        if self.is_lost:
            return  # nobody answers; its client gives up some time
        if worker is not None:
            worker.receive(request)
            return
        at_work = [one for one in self.workers if not one.is_gone]
        if not at_work:
            request.finish(End.BROKEN, self._events.now)
            return
        self._turn += 1
        at_work[self._turn % len(at_work)].receive(request)

    def begin_end(self) -> None:
        """SIGTERM: everything is answered as before, and each answer ends its connection."""
        self.says_close = True

    def drain(self) -> None:
        """After the delay: what is inside is answered, what comes is not."""
        self._drains_since = self._events.now
        for worker in self.workers:
            worker.close()

    def is_drained(self) -> bool:
        """Whether everything inside is answered."""
        return not any(worker.present for worker in self.workers)

    def die(self) -> None:
        """All its processes are gone, and the machine says so to whoever asks."""
        for worker in self.workers:
            worker.die()
        self.processors.stop()

    def lose(self) -> None:
        """The machine is gone: nobody says anything any more."""
        self.is_lost = True
        self.processors.stop()

    def replace(self, number: int) -> None:
        """A new process takes a worker's place."""
        self.workers[number].die()
        self.workers[number] = self._worker(number)

    def _worker(self, number: int) -> Worker:
        permits = Quota(self._parameters.queue_capacity, self._shares, number)
        rng = Random(self._rng.random())
        return Worker(self._events, self.processors, self._parameters, permits, rng, number)
