"""Compares rates fairly: all candidates in turn, round after round. Knows nothing of what they do.

A machine's speed drifts by the second, so that two figures taken one after the other mean little. Every candidate has
its turn in every round, a round later in the opposite order, and two are compared round by round.
"""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Generic, TypeVar

Clock = Callable[[], float]
Progress = Callable[[int, int], None]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Candidate(Generic[Key]):
    """Something to time. `work` does a little of it and says how much; `threads` of them call it side by side."""

    key: Key
    work: Callable[[], float]
    threads: int = 1


@dataclass(frozen=True)
class Measured:
    """Units of work a second, one figure a round."""

    rounds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """The median round."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """The distance from the slowest round to the fastest, as a fraction of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.rate


def ratio(one: Measured, other: Measured) -> float:
    """How many times as fast as `other` `one` is: the median over the rounds that both ran in."""
    return median(first / second for first, second in zip(one.rounds, other.rounds, strict=True))


def measure(
    candidates: Sequence[Candidate[Key]],
    *,
    seconds: float,
    rounds: int,
    clock: Clock = time.perf_counter,
    progress: Progress = lambda done, total: None,
) -> dict[Key, Measured]:
    """Time every candidate for `seconds` in each of `rounds` rounds, after one call that does not count."""
    rates: dict[Key, list[float]] = {candidate.key: [] for candidate in candidates}
    total = len(candidates) * (rounds + 1)
    for done, candidate in enumerate(candidates):
        progress(done, total)
        candidate.work()
    for turn in range(rounds):
        for index, candidate in enumerate(candidates if turn % 2 == 0 else reversed(candidates)):
            progress(len(candidates) * (turn + 1) + index, total)
            rates[candidate.key].append(rate(candidate, seconds, clock))
    progress(total, total)
    return {key: Measured(tuple(found)) for key, found in rates.items()}


def rate(candidate: Candidate[Key], seconds: float, clock: Clock) -> float:
    """Units a second, all threads together; each begins with the others and ends with a whole piece of work.

    One thread alone is the caller's: a CUDA graph can be replayed only by the thread that captured it.
    """
    together = threading.Barrier(candidate.threads)

    def thread() -> float:
        together.wait()
        started, done, elapsed = clock(), 0.0, 0.0
        while elapsed < seconds:
            done += candidate.work()
            elapsed = clock() - started
        return done / elapsed

    if candidate.threads == 1:
        return thread()
    with ThreadPoolExecutor(candidate.threads) as pool:
        return sum(future.result() for future in [pool.submit(thread) for _ in range(candidate.threads)])
