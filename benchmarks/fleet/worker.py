"""One worker process: an event loop and an instance, whose thread decodes the small pictures of its runs.

Who is let in and what runs together is decided by the service's own code, app/inference/admission.py and next_batch of
app/inference/waiters.py, in virtual time. What is simulated is how long everything takes.
"""

import math
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from random import Random
from typing import Any, cast

from app.errors import QueueFull
from app.inference.admission import Admission
from app.inference.waiters import next_batch
from app.system.quota import Quota
from benchmarks.fleet.events import Event, Events
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.processors import Processors
from benchmarks.fleet.request import End, Request

_NEWS = 0.2  # as of the batcher: how much the last run counts in what runs take
_MOST_LAG, _LAG_HOLDS_S = 0.2, 1.0  # as of the gate


class Worker:
    """Serves requests with one instance. `permits`: its share of those of all workers. `home`: its CPU."""

    def __init__(
        self, events: Events, processors: Processors, parameters: Parameters, permits: Quota, rng: Random, home: int = 0
    ) -> None:
        self._events, self._processors, self._parameters, self._rng = events, processors, parameters, rng
        self._home = home
        self._loop, self._instance = (id(self), "loop"), (id(self), "instance")  # its threads
        self.admission = Admission(permits, parameters.max_batch_size + 1)
        self.connections = 0
        self.is_closing = self.is_hung = self.is_gone = False
        self._ready: deque[tuple[float, Callable[..., object], tuple[Any, ...]]] = deque()  # for the event loop
        self._loop_works = self._instance_works = False
        self._waiting: dict[Request, None] = {}
        self._present: dict[Request, None] = {}  # not told its end yet
        self._inside: dict[Request, Event] = {}  # with permits, and when each expires
        self._dispatch_scheduled = False
        self._run_s = 0.0
        self._left_in_turn = 0
        self._gated: float | None = None  # since when a turn of the event loop is measured
        self._lag_s = self._lag_until = 0.0
        self.batches: list[int] = []

    @property
    def inside(self) -> int:
        """Requests that hold a permit."""
        return len(self._inside)

    @property
    def present(self) -> int:
        """Requests that have arrived and have no answer yet."""
        return len(self._present)

    # --- the event loop ---

    def receive(self, request: Request) -> None:
        """A request has arrived, head and body."""
        if self.is_gone:
            request.finish(End.BROKEN, self._events.now)
            return
        request.worker = self
        self._present[request] = None
        self._soon(0.0, self._gate, request)

    def abandon(self, request: Request) -> None:
        """Its client has hung up."""
        self._present.pop(request, None)
        if not self.is_hung:
            self._soon(0.0, self._leave, request, End.BROKEN)

    def _soon(self, seconds: float, then: Callable[..., object], *arguments: Any) -> None:
        """Let the event loop do this after all that is ready; it takes so many seconds, and has its effect then."""
        self._ready.append((seconds, then, arguments))
        if not self._loop_works:
            self._loop_works = True
            self._turn(self._parameters.wake_s)

    def _turn(self, wake_s: float = 0.0) -> None:
        """Do what is ready, up to what takes time, and that."""
        more = True
        while more:
            if self._left_in_turn == 0:
                self._left_in_turn = len(self._ready)
                self._note_lag()
            seconds, then, arguments = self._ready.popleft()
            self._left_in_turn -= 1
            if seconds + wake_s > 0:
                self._work(seconds + wake_s, partial(self._done, then, arguments), self._loop)
                return
            more = self._has_more(then, arguments)

    def _work(self, seconds: float, then: Callable[[], object], thread: Hashable) -> None:
        self._processors.work(seconds, then, thread, self._home, is_pinned=self._parameters.is_pinned)

    def _done(self, then: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        if self._has_more(then, arguments):
            self._turn()

    def _has_more(self, then: Callable[..., object], arguments: tuple[Any, ...]) -> bool:
        """Whether something is ready after this."""
        if self.is_hung or self.is_gone:
            return False
        then(*arguments)
        if self._ready:
            return True
        self._loop_works = False
        self._left_in_turn = 0
        return False

    def _note_lag(self) -> None:
        if self._gated is None:
            return
        now, since, self._gated = self._events.now, self._gated, None
        if now - since >= self._lag_s or now >= self._lag_until:
            self._lag_s, self._lag_until = now - since, now + _LAG_HOLDS_S

    # --- one request ---

    def _gate(self, request: Request) -> None:
        if request.is_over:
            return
        now, timeout_s = self._events.now, request.timeout_s
        if self.is_closing:
            self._soon(self._parameters.refuse_s, self._tell, request, End.DRAINING)
            return
        if now < self._lag_until:
            timeout_s -= min(self._lag_s, timeout_s * _MOST_LAG)
        try:
            self.admission.take(1, now, now + timeout_s, here=False)
        except QueueFull as refused:
            request.retry_after_s = float(cast(int, refused.retry_after_s))
            self._soon(self._parameters.refuse_s, self._tell, request, End.REFUSED)
            return
        if self._gated is None:
            self._gated = now
        request.let_in, request.deadline = now, now + request.timeout_s
        self._inside[request] = self._events.at(request.deadline, self._expire, request)
        self._soon(self._parameters.accept_s, self._arrived, request)

    def _arrived(self, request: Request) -> None:
        self.admission.arrive(1, self._events.now)
        request.is_here = True
        if request.is_over:
            return
        request.stage = "queue"
        self._waiting[request] = None
        self._dispatch_soon()

    def _expire(self, request: Request) -> None:
        """Its deadline has passed: the service says so, whatever becomes of its image."""
        if not request.is_over and request in self._inside:
            request.is_over = True
            self._waiting.pop(request, None)
            self._soon(self._parameters.answer_s, self._leave, request, End.EXPIRED)

    def _leave(self, request: Request, end: End) -> None:
        if (timer := self._inside.pop(request, None)) is None:
            return
        timer.cancel()
        self.admission.release(self._events.now, here=request.is_here)
        self._tell(request, end)

    def _tell(self, request: Request, end: End) -> None:
        if self._present.pop(request, self) is None:
            request.finish(end, self._events.now)

    # --- batches ---

    def _dispatch_soon(self) -> None:
        if not self._dispatch_scheduled:
            self._dispatch_scheduled = True
            self._soon(0.0, self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_scheduled = False
        if self._instance_works or not self._waiting:
            return
        now = self._events.now
        batch = cast(
            list[Request], next_batch(cast(Any, self._waiting), self._parameters.max_batch_size, now, self._run_s)[0]
        )
        if not batch:
            return
        self._instance_works = True
        self.batches.append(len(batch))
        ran = partial(self._soon, 0.0, self._ran, batch, now)
        self._work(self._run_takes_s(batch), ran, self._instance)

    def _run_takes_s(self, batch: list[Request]) -> float:
        seconds = self._parameters.run_s + len(batch) * self._parameters.image_s
        if spread := self._parameters.run_spread:
            seconds *= math.exp(self._rng.gauss(-spread * spread / 2, spread))
        return seconds + sum(request.decode_s for request in batch)

    def _ran(self, batch: list[Request], started: float) -> None:
        now = self._events.now
        self.admission.answered(len(batch), now)
        self._run_s += (now - started - self._run_s) * _NEWS
        for request in batch:
            if not request.is_over:
                request.is_over = True
                self.admission.took(now - request.let_in)
                self._soon(self._parameters.answer_s, self._leave, request, End.ANSWERED)
        self._soon(0.0, self._freed)

    def _freed(self) -> None:
        self._instance_works = False
        if self._waiting:
            self._dispatch_soon()

    # --- ends ---

    def close(self) -> None:
        """Refuse what comes from now on."""
        self.is_closing = True

    def hang(self) -> None:
        """The event loop does nothing from now on."""
        self.is_hung = True

    def die(self) -> None:
        """The process is gone: connections break, and its permits are free."""
        self.is_gone = True
        for request, timer in self._inside.items():
            timer.cancel()
            self.admission.release(self._events.now, here=request.is_here)
        self._inside.clear()
        present, self._present = self._present, {}
        for request in present:
            request.finish(End.BROKEN, self._events.now)
