"""How fast each CPU of this machine is from one moment to the next, where all are busy. Knows nothing of a service.

On a guest of a machine that others use, a CPU's speed changes by half within a tenth of a second, as a neighbour works
on the other thread of its core or takes its turn. One process for each CPU does the same small piece of work over and
over; how many pieces it does in a window, of its own mean, is the speed there.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain, pairwise
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from time import perf_counter

import numpy as np

from benchmarks.serving.environments import ROOT

WINDOW_S = 0.02
_PIECE = 400  # turns of a loop: some 20 us

Speeds = tuple[tuple[float, ...], ...]  # by CPU, in each window of WINDOW_S: mean 1


def measure(seconds: float) -> Speeds:
    """Of all CPUs that this process may use, at once."""
    command = (sys.executable, "-m", "benchmarks.fleet.speeds", str(seconds))  # which leaves no process behind
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(tuple(of_cpu) for of_cpu in json.loads(said))


def joined(found: Iterable[Speeds]) -> Speeds:
    """One after the other."""
    return tuple(tuple(chain.from_iterable(of_cpu)) for of_cpu in zip(*found, strict=True))


def _measured(seconds: float) -> list[tuple[float, ...]]:
    cpus = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("fork")
    together, found = context.Barrier(len(cpus)), context.SimpleQueue()
    workers = [context.Process(target=_work, args=(cpu, together, seconds, found)) for cpu in cpus]
    for worker in workers:
        worker.start()
    speeds = dict(found.get() for _ in workers)
    for worker in workers:
        worker.join()
    return [speeds[cpu] for cpu in cpus]


def _work(cpu: int, together: Barrier, seconds: float, found: "SimpleQueue[tuple[int, tuple[float, ...]]]") -> None:
    os.sched_setaffinity(0, {cpu})
    together.wait()
    ends = [perf_counter()]
    while ends[-1] < ends[0] + seconds:
        sum(number * number for number in range(_PIECE))
        ends.append(perf_counter())
    found.put((cpu, speeds_of(ends)))


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


if __name__ == "__main__":
    print(json.dumps(_measured(float(sys.argv[1]))))
