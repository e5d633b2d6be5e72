"""One service with its client on the same machine, as it is measured: a closed loop, and an open one. No fleet.

The client is one thread, as that of benchmarks/overload: it takes some of the processors for each request it sends and
each answer it hears, and keeps connections, each of which belongs to a worker.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.fleet.events import Events
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.pod import Pod
from benchmarks.fleet.request import Request
from benchmarks.fleet.worker import Worker

LONG_S = 30.0
_POLL_S = 0.001  # epoll waits whole milliseconds, and sends what falls due meanwhile at their end


@dataclass
class Window:
    """Requests that were due from `start` to `end`, and all that were answered then."""

    start: float
    end: float
    due: list[Request] = field(default_factory=list)
    heard: list[Request] = field(default_factory=list)

    def note_due(self, request: Request) -> None:
        if self.start <= request.due < self.end:
            self.due.append(request)

    def note_end(self, request: Request) -> None:
        if self.start <= request.ended < self.end:
            self.heard.append(request)


class Client:
    """One thread that sends and hears, with connections to one service."""

    def __init__(
        self, events: Events, pod: Pod, parameters: Parameters, window: Window, timeout_s: float, rng: Random
    ) -> None:
        self._events, self._pod, self._parameters, self._window = events, pod, parameters, window
        self._timeout_s, self._rng = timeout_s, rng
        self._free: deque[Worker] = deque()
        self._to_do: deque[Callable[[], object]] = deque()
        self._works = False
        self._number = 0
        self.then: Callable[[Request], object] = lambda request: None

    def connect(self, count: int) -> None:
        """Open connections beforehand."""
        for _ in range(count):
            self._free.append(self._connected())

    def ask(self, due: float) -> None:
        """Send a request as soon as the thread has time."""
        self._number += 1
        decode_s = self._parameters.decode_s[self._rng.randrange(len(self._parameters.decode_s))]
        request = Request(self._number, due, self._timeout_s, decode_s, self._heard)
        self._window.note_due(request)
        self._do(lambda: self._send(request))

    def _send(self, request: Request) -> None:
        worker = self._free.popleft() if self._free else self._connected()
        request.worker, request.sent = worker, self._events.now
        worker.receive(request)

    def _connected(self) -> Worker:
        worker = self._pod.next_worker()
        worker.connections += 1
        return worker

    def _heard(self, request: Request) -> None:
        self._do(lambda: self._note(request))

    def _note(self, request: Request) -> None:
        request.ended = self._events.now
        self._free.append(request.worker)  # type: ignore[arg-type]
        self._window.note_end(request)
        self.then(request)

    def _do(self, what: Callable[[], object]) -> None:
        self._to_do.append(what)
        if not self._works:
            self._works = True
            self._next(self._parameters.client_wake_s)

    def _next(self, wake_s: float = 0.0) -> None:
        self._pod.processors.work(self._parameters.client_s + wake_s, self._done, self)

    def _done(self) -> None:
        self._to_do.popleft()()
        if self._to_do:
            self._next()
        else:
            self._works = False


def closed_loop(
    parameters: Parameters,
    connections: int,
    seconds: float,
    seed: int,
    timeout_s: float = LONG_S,
    lead_in_s: float = 1.0,
) -> Window:
    """`connections` clients, each of which asks again as soon as it is answered."""
    events, rng, window = Events(), Random(seed), Window(lead_in_s, lead_in_s + seconds)
    pod = Pod(events, parameters, rng)
    client = Client(events, pod, parameters, window, timeout_s, rng)
    client.then = lambda request: client.ask(events.now) if events.now < window.end else None
    client.connect(connections)
    for _ in range(connections):
        client.ask(0.0)
    events.run(window.end + timeout_s)
    return window


def open_loop(
    parameters: Parameters,
    rate: float,
    seconds: float,
    seed: int,
    timeout_s: float,
    lead_in_s: float = 1.0,
    connections: int = 32,
    due: Sequence[float] = (),
) -> Window:
    """Requests fall due at random times of a given rate, or at those of `due`; the client sends them as it wakes up."""
    events, rng, window = Events(), Random(seed), Window(lead_in_s, lead_in_s + seconds)
    pod = Pod(events, parameters, rng)
    client = Client(events, pod, parameters, window, timeout_s, rng)
    client.connect(connections)

    def fall_due(when: float) -> None:
        events.at(when + rng.random() * _POLL_S, client.ask, when)

    def arrive(when: float) -> None:
        fall_due(when)
        following = when + rng.expovariate(rate)
        if following < window.end:
            events.at(following, arrive, following)

    if due:
        for when in due:
            fall_due(when)
    else:
        arrive(0.0)
    events.run(window.end + 2 * timeout_s)
    return window
