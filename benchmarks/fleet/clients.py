"""Clients that come whether the service can answer or not, and come again as they think right. Knows no pods.

How many come is a rate over time; they come at random (Poisson). A client that is refused waits as its manner is: as
long as Retry-After says, or a pause of its own, or not at all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from benchmarks.fleet.events import Events
from benchmarks.fleet.ledger import Call, Ledger
from benchmarks.fleet.request import End, Request

Rate = Callable[[float], float]  # calls a second at a time in seconds


class Sends(Protocol):
    """What a balancer is to clients."""

    def send(self, request: Request, then: Callable[[Request], object]) -> None:
        """Hand the request over, and tell `then` of its end."""
        ...


@dataclass(frozen=True)
class Manner:
    """How clients behave. `tries`: at most. `listens`: whether Retry-After is waited for; else `pause_s`.

    `jitter`: up to this share is added to a pause, at random. `timeout_s`: of each try, and told to the service.
    """

    timeout_s: float = 2.0
    tries: int = 1
    listens: bool = False
    pause_s: float = 0.1
    jitter: float = 0.5


class Clients:
    """Comes from time 0 to `until`, `rate` calls a second, `most` at most."""

    def __init__(
        self,
        events: Events,
        balancer: Sends,
        ledger: Ledger,
        manner: Manner,
        decode_s: tuple[float, ...],
        rng: Random,
    ) -> None:
        self._events, self._balancer, self._ledger, self._manner = events, balancer, ledger, manner
        self._decode_s, self._rng = decode_s, rng
        self._number = 0

    def come(self, rate: Rate, most: float, until: float) -> None:
        """Plan the arrivals: candidates at the highest rate, of which each is taken as the rate then is."""
        due = self._events.now + self._rng.expovariate(most)
        if due < until:
            self._events.at(due, self._arrive, rate, most, until)

    def _arrive(self, rate: Rate, most: float, until: float) -> None:
        now = self._events.now
        if self._rng.random() * most < rate(now):
            self._try(self._ledger.begin(now))
        self.come(rate, most, until)

    def _try(self, call: Call) -> None:
        call.tries += 1
        self._number += 1
        now, decode_s = self._events.now, self._rng.choice(self._decode_s)
        request = Request(self._number, now, self._manner.timeout_s, decode_s, lambda _: None)
        timer = self._events.after(self._manner.timeout_s + 0.1, self._give_up, request)

        def heard(ended: Request) -> None:
            timer.cancel()
            self._heard(call, ended)

        self._balancer.send(request, heard)

    def _give_up(self, request: Request) -> None:
        """No answer at all: not even that it is too late."""
        while request.following is not None:
            request = request.following
        if request.end is None:
            worker = request.worker
            request.finish(End.BROKEN, self._events.now)
            if worker is not None:
                worker.abandon(request)  # type: ignore[attr-defined]

    def _heard(self, call: Call, request: Request) -> None:
        end = request.end or End.BROKEN
        if end is End.ANSWERED or call.tries >= self._manner.tries:
            self._ledger.close(call, end, self._events.now)
            return
        asked = request.retry_after_s if self._manner.listens and end is End.REFUSED else self._manner.pause_s
        pause_s = asked * (1 + self._manner.jitter * self._rng.random())
        self._events.after(pause_s, self._try, call)


def steady(per_s: float) -> Rate:
    """The same all the time."""
    return lambda _: per_s


def burst(per_s: float, times: float, begin: float, end: float) -> Rate:
    """`times` as many from `begin` to `end`."""
    return lambda now: per_s * (times if begin <= now < end else 1.0)


def daily(per_s: float, swing: float, period_s: float) -> Rate:
    """A wave around `per_s`: as much as `swing` of it more and less, least at the start."""
    return lambda now: per_s * (1 - swing * math.cos(2 * math.pi * now / period_s))
