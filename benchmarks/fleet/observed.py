"""One load on the real service, and what it came to: rates, times, processor seconds, batches. Knows no simulation."""

import os
import re
import signal
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from time import perf_counter, process_time, sleep

import numpy as np

from benchmarks.fleet.threads import Threads, Used
from benchmarks.overload.loops import Observed, OpenLoop, Terms, closed_loop
from benchmarks.overload.processor import Processor
from benchmarks.overload.requests import Request, Ticket
from benchmarks.serving.processes import descendants
from benchmarks.serving.server import Server

_LEAD_IN_S, _LOOK_S, _EDGE_S = 1.0, 0.01, 0.4
_SUM, _COUNT = re.compile(r"^mixer_batch_size_sum (\S+)", re.M), re.compile(r"^mixer_batch_size_count (\S+)", re.M)


@dataclass(frozen=True)
class Figures:
    """A load in its window. Times in ms of those that were answered; `refused`: the share of those due."""

    rate_s: float
    p50_ms: float
    p99_ms: float
    refused: float
    retry_after_s: float = 0.0


@dataclass(frozen=True)
class Load:
    """What the real service did. `used`, `client_s` and the counts are of the whole load, not of the window alone.

    due: of an open loop, when each request fell due, in seconds since it began. even_rate_s: as of the function.
    """

    figures: Figures
    used: Used
    client_s: float
    answered: int
    turned_away: int
    images_a_run: float
    due: tuple[float, ...] = ()
    even_rate_s: float = 0.0

    @property
    def request_s(self) -> float:
        """Processor seconds for each answer, those of the client included."""
        return (self.used.all + self.client_s) / self.answered

    def share_of(self, cpus: int) -> float:
        """Of a load that keeps all CPUs busy: how much of their time it had. Below 1, others had the rest."""
        return self.even_rate_s * self.request_s / cpus

    def on_cpus_of(self, speed: float) -> "Load":
        """What its processor time would be, were the CPUs as fast as that; they were at 1."""
        return replace(self, used=Used(self.used.loop / speed, self.used.runs / speed), client_s=self.client_s / speed)


def together(found: Sequence[Load]) -> Load:
    """Loads of the same kind as one: sums, and the means of their figures."""
    answered = sum(one.answered for one in found)
    runs = sum(one.answered / one.images_a_run for one in found if one.answered)
    figures = Figures(
        *(float(np.mean([getattr(one.figures, name) for one in found])) for name in vars(found[0].figures))
    )
    used = Used(sum(one.used.loop for one in found), sum(one.used.runs for one in found))
    client_s, away = sum(one.client_s for one in found), sum(one.turned_away for one in found)
    even_rate_s = float(np.mean([one.even_rate_s for one in found]))
    images_a_run = answered / runs if runs else float("nan")
    return Load(figures, used, client_s, answered, away, images_a_run, even_rate_s=even_rate_s)


class Bench:
    """Loads for one running service, one after another. `lead_in_s`: of each, before its window of `seconds`."""

    def __init__(
        self, server: Server, requests: Sequence[Request], seconds: float, lead_in_s: float = _LEAD_IN_S
    ) -> None:
        self._server, self._requests, self._seconds, self._lead_in_s = server, requests, seconds, lead_in_s
        self._processes = [one for one in descendants(os.getpid()) if one not in server.spared]

    def closed(self, connections: int, seed: int, timeout_s: float = 30.0) -> Load:
        """A closed loop."""
        terms = Terms(self._seconds, self._lead_in_s, timeout_s, connections)
        return self._watched(
            lambda: closed_loop(self._server.port, self._requests, terms, Random(seed), Processor(())), is_open=False
        )

    def open(self, rate: float, seed: int, timeout_s: float) -> Load:
        """An open loop, whose requests must carry `timeout_s`."""
        terms = Terms(self._seconds, self._lead_in_s, timeout_s, 32, retry_share=0.0)
        loop = OpenLoop(self._server.port, self._requests, rate, rate / 2, terms, Random(seed))
        return self._watched(lambda: loop.run(Processor(())), is_open=True)

    def _watched(self, run, *, is_open: bool) -> Load:  # type: ignore[no-untyped-def]
        before, client_s = batches(self._server.port), process_time()
        threads = Threads(self._processes)
        observed: Observed = run()
        used, client_s = threads.used(), process_time() - client_s
        after = batches(self._server.port)
        runs = after[1] - before[1]
        done = [one.done for one in observed.tickets if one.status == 200]
        began = observed.start - self._lead_in_s
        return Load(
            figures_of(observed, is_open=is_open), used, client_s, len(done), len(observed.tickets) - len(done),
            (after[0] - before[0]) / runs if runs else float("nan"),
            tuple(round(one.due - began, 5) for one in observed.tickets) if is_open else (),
            even_rate_s(done, observed.start, observed.end),
        )  # fmt: skip


def batches(port: int) -> tuple[float, float]:
    """Images that a service has run so far, and its runs. Raises ValueError where it is not this service."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    total, count = _SUM.search(text), _COUNT.search(text)
    if total is None or count is None:
        raise ValueError("/metrics has no mixer_batch_size; expected that of this service.")
    return float(total[1]), float(count[1])


def seconds_to_end(server: Server) -> float:
    """From SIGTERM to the end of every process, where nothing is asked."""
    processes = [one for one in descendants(os.getpid()) if one not in server.spared]
    began = perf_counter()
    os.kill(min(processes), signal.SIGTERM)
    while any(one in processes for one in descendants(os.getpid())):
        sleep(_LOOK_S)
    return perf_counter() - began


def figures_of(observed: Observed, *, is_open: bool) -> Figures:
    """Of a closed loop what was answered in its window counts, of an open one what was due in it."""
    inside = [one for one in observed.tickets if observed.start <= (one.due if is_open else one.done) < observed.end]
    return figures([one for one in inside if one.status == 200], inside, observed.end - observed.start)


def even_rate_s(done: Sequence[float], start: float, end: float) -> float:
    """Answers a second, of which those near the window's edges count for less, the nearer the less.

    Runs end with ten answers at once: whether a run ends right before the edge of two seconds or right after it is
    worth some per cent of a plain count.
    """
    edge_s = min(_EDGE_S, (end - start) / 2)
    times = np.array(done)
    counts = np.clip(np.minimum(times - start, end - times) / edge_s, 0.0, 1.0)
    return float(counts.sum()) / (end - start - edge_s)


def figures(answered: Sequence[Ticket], due: Sequence[Ticket], seconds: float) -> Figures:
    """Rates and times."""
    times = np.array([one.latency_s for one in answered]) * 1000
    p50, p99 = (float(each) for each in np.percentile(times, [50, 99])) if times.size else (float("nan"),) * 2
    told = [one.retry_after_s or 0.0 for one in due if one.status == 429]
    return Figures(
        len(answered) / seconds, p50, p99, 1 - len(answered) / len(due) if due else 0.0,
        float(np.median(told)) if told else 0.0,
    )  # fmt: skip
