"""How fast each CPU of this machine is from one moment to the next, where all are busy. Knows nothing of a service.

On a guest of a machine that others use, a CPU's speed changes by half within a tenth of a second, as a neighbour works
on the other thread of its core or takes its turn. One process for each CPU does the same small piece of work over and
over; how many pieces it does in a window, of its own mean, is the speed there.
"""

import multiprocessing
import os
from collections.abc import Iterable
from itertools import chain, pairwise
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from time import perf_counter

import numpy as np

WINDOW_S = 0.02
_PIECE = 400  # turns of a loop: some 20 us
_START_S = 60.0  # for the processes to start

Speeds = tuple[tuple[float, ...], ...]  # by CPU, in each window of WINDOW_S: mean 1


def measure(seconds: float) -> Speeds:
    """Of all CPUs that this process may use, at once."""
    cpus = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    together, found = context.Barrier(len(cpus)), []
    for cpu in cpus:
        ours, theirs = context.Pipe(duplex=False)
        context.Process(target=_work, args=(cpu, together, seconds, theirs), daemon=True).start()
        theirs.close()  # so that one that dies is told by the end of its pipe
        found.append(ours)
    return tuple(ours.recv() for ours in found)


def joined(found: Iterable[Speeds]) -> Speeds:
    """One after the other."""
    return tuple(tuple(chain.from_iterable(of_cpu)) for of_cpu in zip(*found, strict=True))


def _work(cpu: int, together: Barrier, seconds: float, to: Connection) -> None:
    os.sched_setaffinity(0, {cpu})
    together.wait(_START_S)
    ends = [perf_counter()]
    while ends[-1] < ends[0] + seconds:
        sum(number * number for number in range(_PIECE))
        ends.append(perf_counter())
    to.send(speeds_of(ends))


def speeds_of(ends: list[float]) -> tuple[float, ...]:
    """From when each piece ended, the first the beginning. A piece counts where it was done, part by part."""
    windows = int((ends[-1] - ends[0]) / WINDOW_S)
    done = np.zeros(windows + 1)
    for start, end in pairwise(ends):
        _share_out(done, (start - ends[0]) / WINDOW_S, (end - ends[0]) / WINDOW_S)
    done = done[:windows]
    return tuple(round(float(each), 3) for each in done / done.mean())


def _share_out(done: "np.ndarray[tuple[int], np.dtype[np.float64]]", start: float, end: float) -> None:
    for window in range(int(start), min(int(end), len(done) - 1) + 1):
        overlap = min(end, window + 1) - max(start, window)
        done[window] += overlap / (end - start)
