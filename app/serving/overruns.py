"""Decodes that take more processor time than any may, and the end of the process that is in one.

No thread can be stopped from outside, so that its process is: after a moment for what others have sent it. Waiting,
for memory or on a busy machine, takes no processor time and is no fault of a file. Knows nothing of formats.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from app.errors import BadImage
from app.serving.health import Health
from app.system.threads import UnderWay
from app.system.worker_context import WorkerContext
from app.telemetry.metrics import Metrics

_LOOK_S = 0.25
_STALL_S = 4.0  # with no thread free is what readiness must know of
_GRACE_S = 3.0  # for the answers of others
_LAST_ANSWERS_S = 0.1  # for their way out
_QUIET_LOOKS = 3  # in a row without a connection: one may be accepted just before the worker stops listening

log = logging.getLogger("mixer.overruns")


def processor_s(thread: threading.Thread) -> float:
    """Processor seconds of a thread that is alive; where the system does not tell, seconds elapsed."""
    if hasattr(time, "pthread_getcpuclockid") and thread.ident is not None:
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return time.monotonic()


class Calls(Protocol):
    """What threads are in, such as Threads and Decoding."""

    def under_way(self) -> Iterator[UnderWay]:
        """The calls."""
        ...

    def abandon(self, found: UnderWay, error: Exception) -> None:
        """Answer one of them with `error`."""
        ...

    def stalled_s(self) -> float:
        """For how many seconds no thread has been free; 0 where one is."""
        ...


class Overruns:
    """Finds the calls of some threads that have taken more than `limit_s`, each once.

    A call counts from when it is first seen, so that the threads need not look at a clock. `clock`: seconds that a
    thread has spent.
    """

    def __init__(
        self, threads: Calls, limit_s: float, clock: Callable[[threading.Thread], float] = processor_s
    ) -> None:
        self.threads = threads
        self.limit_s = limit_s
        self._clock = clock
        # The processor time of a call's thread when it was first seen, by the thread's number and the call's begin.
        self._seen: dict[tuple[int, float], float] = {}
        self._told: set[tuple[int, float]] = set()

    def found(self) -> list[tuple[UnderWay, float]]:
        """The overruns found now, with the seconds that each has spent."""
        under_way = list(self.threads.under_way())
        known = {(call.number, call.began) for call in under_way}
        self._seen = {key: at for key, at in self._seen.items() if key in known}
        self._told &= known
        return [found for call in under_way if (found := self._overrun(call)) is not None]

    def _overrun(self, call: UnderWay) -> tuple[UnderWay, float] | None:
        key, now = (call.number, call.began), self._clock(call.thread)
        spent_s = now - self._seen.setdefault(key, now)
        if spent_s <= self.limit_s or key in self._told:
            return None
        self._told.add(key)
        return call, spent_s


class OverrunWatch:
    """Looks for overruns for ever; the first one is the beginning of the process's end.

    Its picture gets BadImage, and another thread takes what waits behind it. The worker leaves new connections to the
    others, and lets each client go with its answer. `end` is called once none is left, or after three seconds.
    """

    def __init__(
        self,
        overruns: Overruns,
        health: Health,
        metrics: Metrics,
        worker: WorkerContext,
        end: Callable[[], object] | None = None,
    ) -> None:
        self._overruns = overruns
        self._health = health
        self._metrics = metrics
        self._worker = worker
        self._end = end or _end_at_once

    async def watch(self) -> None:
        """Until the end."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._look():
                break
        until, quiet = time.monotonic() + _GRACE_S, 0
        while time.monotonic() < until:
            await asyncio.sleep(_LAST_ANSWERS_S)
            self._look()
            quiet = 0 if self._worker.connections else quiet + 1
            if quiet == _QUIET_LOOKS:
                break
        if not self._health.is_draining():  # it ends by itself, and with what it has
            self._end()

    def _look(self) -> bool:
        """Whether there was one."""
        found = self._overruns.found()
        for call, spent_s in found:
            self._metrics.decode_overruns.labels().inc()
            log.critical(
                "a picture of %d bytes has been decoded for %.1f s of processor time, of %g s that it may take; "
                "this process ends",
                call.payload_bytes, spent_s, self._overruns.limit_s,
            )  # fmt: skip
            words = f"takes more than {self._overruns.limit_s:g} s of processor time, the most expected."
            self._overruns.threads.abandon(call, BadImage(f"Decoding the picture {words}"))
            self._worker.retire()
            self._health.start_ending(f"Decoding a picture {words} This process ends.")
        self._look_for_stall()
        return bool(found)

    def _look_for_stall(self) -> None:
        """Tell whether every thread that decodes has been in one call for too long, whatever the cause."""
        stalled_s = self._overruns.threads.stalled_s()
        words = f"No picture has been decoded in {stalled_s:.1f} s: each thread for that is in one."
        self._health.stall(words if stalled_s > _STALL_S else None)


def _end_at_once() -> None:
    """The thread would keep any gentler end waiting."""
    logging.shutdown()
    os._exit(1)
