"""How much slower than the machine that a test's limits were written on this one is. Knows nothing of what is timed.

A limit stands in the test as it was set there, and is stretched by how much longer a loop of Python, or one of zlib,
takes in the process that asks, at that moment, with whatever runs beside it or traces it.
"""

import time
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from statistics import median

_REPEATS = 7
_ROWS = Random(0).choices(range(100), k=150_000)


def slowness(clock: Callable[[], float] = time.thread_time) -> float:
    """By how much this machine is slower at this moment, at least 1. `clock`: time.perf_counter counts waiting too."""
    return max(1.0, *(_timed(work, clock) / reference_s for work, reference_s in _REFERENCE_S.items()))


@cache
def slowness_at_first() -> float:
    """The same, measured once: for limits that are fixed before anything is timed."""
    return slowness()


def is_within(spent_s: float, limit_s: float, clock: Callable[[], float] = time.thread_time) -> bool:
    """Whether so much time is within the limit on this machine: of the processor, or with time.perf_counter elapsed.

    The machine is measured only where the limit alone does not settle it, right after what is judged.
    """
    return spent_s <= limit_s or spent_s <= limit_s * max(slowness_at_first(), slowness(clock))


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    spent_s = []
    for _ in range(_REPEATS):
        started = clock()
        work()
        spent_s.append(clock() - started)
    return median(spent_s)


def _python() -> int:
    """Calls, branches and bytes, as in a decoder written in Python."""
    content, total = bytes(_ROWS[:20_000]), 0
    for at in range(0, len(content), 2):
        total += _step(content, at)
    return total


def _step(content: bytes, at: int) -> int:
    first, second = content[at : at + 2]
    return first if first > second else len(content[at : at + second])


def _zlib() -> bytes:
    return zlib.decompress(zlib.compress(bytes(_ROWS), 1))


# Processor seconds of each on the machine that the limits were written on: AMD EPYC (Zen 4), Python 3.11, no tracing.
_REFERENCE_S: dict[Callable[[], object], float] = {_python: 0.0020, _zlib: 0.0047}
