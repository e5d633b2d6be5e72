"""Two ways to load a service: a closed loop finds its capacity, an open one goes beyond. Knows no figures.

In an open loop requests fall due at random times of a given rate (Poisson), and are sent then whatever is outstanding.
A share of the refused waits as long as Retry-After says and tries once more; meanwhile the load goes on.
"""

import gc
import heapq
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from time import perf_counter

from benchmarks.overload.client import BROKEN, Client
from benchmarks.overload.processor import Processor, Used
from benchmarks.overload.requests import RIGHT_STATUS, Request, Ticket, answers_rightly

_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_IDLE_S = 0.05


@dataclass(frozen=True)
class Terms:
    """How a load is run. `lead_in_s` is not measured: queues fill, and rates are learnt.

    `retry_share`: of the refused that try again. `longest_wait_s`: whom Retry-After sends further than that does not.
    `grace_s`: for an answer to come at all, after its deadline.
    """

    seconds: float
    lead_in_s: float
    deadline_s: float
    connections: int
    most_connections: int = 1500
    retry_share: float = 0.05
    longest_wait_s: float = 15.0
    grace_s: float = 5.0


@dataclass
class Observed:
    """What the client saw. The window from `start` to `end` is what counts.

    `held`: requests that were due and had no connection. `retries`: second tries, of which `tickets` has none.
    """

    start: float
    end: float
    tickets: list[Ticket] = field(default_factory=list)
    retries: list[Ticket] = field(default_factory=list)
    held: int = 0
    used: Used = field(default_factory=Used)


def closed_loop(
    port: int,
    requests: Sequence[Request],
    terms: Terms,
    rng: Random,
    processor: Processor,
    clock: Callable[[], float] = perf_counter,
) -> Observed:
    """`connections` clients, each of which asks again as soon as it is answered. Raises OSError.

    It ends early where every connection breaks, as when nobody listens any more.
    """
    broken = 0

    def ask() -> None:
        ticket = Ticket(rng.choice(requests), clock())
        ticket.sent = ticket.due
        observed.tickets.append(ticket)
        client.send(ticket, ticket.request.content)

    def ask_again() -> None:
        if clock() < observed.end:
            ask()

    def heard(ticket: Ticket, status: int, _: bytes, body: bytes) -> None:
        nonlocal broken
        note(ticket, status, body, clock())
        if status == BROKEN:  # a connection may break while it is asked for: asking again from here would never end
            broken += 1
        else:
            ask_again()

    client = Client(port, heard, terms.most_connections)
    with no_collection():
        start = clock() + terms.lead_in_s
        observed = Observed(start, start + terms.seconds)
        for _ in range(terms.connections):
            ask()
        window = _Window(observed, processor)
        while (now := clock()) < observed.end + terms.deadline_s + terms.grace_s and client.outstanding:
            window.look(now)
            client.poll(_IDLE_S)
            again, broken = broken, 0
            for _ in range(again):
                ask_again()
        window.look(clock())
    client.close()
    return observed


def note(ticket: Ticket, status: int, body: bytes, now: float) -> None:
    """An answer has come, or its connection has broken."""
    ticket.done = now
    ticket.status = status
    ticket.right = status == RIGHT_STATUS and answers_rightly(body, ticket.request.mark)


class OpenLoop:
    """One load. `rate`: requests due a second until the window ends, `calm_rate` while second tries still wait."""

    def __init__(
        self,
        port: int,
        requests: Sequence[Request],
        rate: float,
        calm_rate: float,
        terms: Terms,
        rng: Random,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._client = Client(port, self._heard, terms.most_connections)
        self._requests = requests
        self._rate, self._calm_rate = rate, calm_rate
        self._terms = terms
        self._rng = rng
        self._clock = clock
        self._waiting: deque[Ticket] = deque()
        self._second_tries: list[tuple[float, int, Ticket]] = []
        self._numbers = itertools.count()

    def run(self, processor: Processor) -> Observed:
        """Until every request is answered or given up. Raises OSError."""
        self._client.open(self._terms.connections)
        with no_collection():
            start = self._clock() + self._terms.lead_in_s
            self._observed = Observed(start, start + self._terms.seconds)
            self._next_due = self._clock()
            self._load(_Window(self._observed, processor))
            self._await_last()
        self._waiting.clear()
        self._client.close()
        return self._observed

    def _load(self, window: "_Window") -> None:
        """Send what is due when it is due, until the window has ended and no second try is left."""
        now = 0.0
        while now < self._observed.end or self._second_tries or self._may_be_refused(now):
            self._client.poll(max(0.0, self._soonest() - self._clock()))
            now = self._clock()
            window.look(now)
            self._send_due(now)

    def _may_be_refused(self, now: float) -> bool:
        """A request of the window waits for its answer, which may send it round again."""
        return bool(self._client.outstanding) and now < self._observed.end + self._terms.deadline_s

    def _await_last(self) -> None:
        until = self._clock() + self._terms.deadline_s + self._terms.grace_s
        while (self._client.outstanding or self._waiting) and self._clock() < until:
            self._client.poll(_IDLE_S)

    def _soonest(self) -> float:
        return min(self._next_due, self._second_tries[0][0]) if self._second_tries else self._next_due

    def _send_due(self, now: float) -> None:
        while self._next_due <= now:
            ticket = Ticket(self._rng.choice(self._requests), self._next_due)
            self._observed.tickets.append(ticket)
            self._send(ticket)
            rate = self._rate if self._next_due < self._observed.end else self._calm_rate
            self._next_due += self._rng.expovariate(rate)
        while self._second_tries and self._second_tries[0][0] <= now:
            _, _, ticket = heapq.heappop(self._second_tries)
            self._observed.retries.append(ticket)
            self._send(ticket)

    def _send(self, ticket: Ticket) -> None:
        ticket.sent = self._clock()
        if not self._client.send(ticket, ticket.request.content):
            self._observed.held += 1
            self._waiting.append(ticket)

    def _heard(self, ticket: Ticket, status: int, head: bytes, body: bytes) -> None:
        note(ticket, status, body, self._clock())
        if ticket.is_refused and ticket.first is None and ticket.due < self._observed.end:
            self._perhaps_again(ticket, head)
        if self._waiting:
            waiting = self._waiting.popleft()
            waiting.sent = self._clock()
            if not self._client.send(waiting, waiting.request.content):
                self._waiting.appendleft(waiting)

    def _perhaps_again(self, ticket: Ticket, head: bytes) -> None:
        asked = _RETRY_AFTER.search(head)
        if asked is None:
            return
        ticket.retry_after_s = float(asked[1])
        if ticket.retry_after_s <= self._terms.longest_wait_s and self._rng.random() < self._terms.retry_share:
            due = ticket.done + ticket.retry_after_s
            heapq.heappush(self._second_tries, (due, next(self._numbers), Ticket(ticket.request, due, ticket)))


class _Window:
    """Reads the processors' clocks when the window begins, and when it ends."""

    def __init__(self, observed: Observed, processor: Processor) -> None:
        self._observed = observed
        self._processor = processor
        self._before: tuple[float, Used] | None = None
        self._done = False

    def look(self, now: float) -> None:
        if self._before is None and now >= self._observed.start:
            self._before = now, self._processor.used()
        elif self._before is not None and not self._done and now >= self._observed.end:
            then, before = self._before
            self._observed.used = self._processor.used().since(before, now - then)
            self._done = True


@contextmanager
def no_collection() -> Iterator[None]:
    """The garbage collector would stop the client in the middle: nothing here makes cycles."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
