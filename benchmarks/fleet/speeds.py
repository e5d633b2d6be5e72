"""How fast each CPU of this machine is from one moment to the next, where all are busy. Knows nothing of a service.

On a guest of a machine that others use, a CPU's speed changes by half within a tenth of a second, as a neighbour works
on the other thread of its core or takes its turn. One process for each CPU does the same small piece of work over and
over, a product of matrices as a network's layer is, which fills vector units and caches as a run does; how many pieces
it does in a window is the speed there. How long an idle CPU needs to wake up is seen, too.
"""

import json
import multiprocessing
import os
import struct
import subprocess
import sys
from collections.abc import Iterable
from itertools import chain, pairwise
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from time import perf_counter, sleep

import numpy as np

from benchmarks.serving.environments import ROOT

WINDOW_S = 0.02
_PAUSE_S = 0.003  # in which a CPU that has nothing to do falls asleep
_ROWS, _INPUTS, _OUTPUTS = 32, 512, 1024  # of a piece: 33 million operations on 2 MB of weights, some 0.5 ms
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")

Speeds = tuple[tuple[float, ...], ...]  # by CPU, in each window of WINDOW_S: pieces, or relative to some mean


def measure(seconds: float) -> Speeds:
    """Of all CPUs that this process may use, at once."""
    command = (sys.executable, "-m", "benchmarks.fleet.speeds", str(seconds))  # which leaves no process behind
    environment = os.environ | _ONE_THREAD
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    return tuple(tuple(of_cpu) for of_cpu in json.loads(said))


def joined(found: Iterable[Speeds]) -> Speeds:
    """One after the other."""
    return tuple(tuple(chain.from_iterable(of_cpu)) for of_cpu in zip(*found, strict=True))


def relative(speeds: Speeds, to: Iterable[Speeds]) -> Speeds:
    """Each CPU's, as a share of its mean in others."""
    means = [float(np.mean(of_cpu)) for of_cpu in joined(to)]
    return tuple(tuple(round(each / mean, 3) for each in of_cpu) for of_cpu, mean in zip(speeds, means, strict=True))


def idle_wake_s(times: int = 200) -> float:
    """Until a process that waits for a pipe on an idle CPU runs, once another has written to it; the median."""
    command = (sys.executable, "-m", "benchmarks.fleet.speeds", "wake", str(times))
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def _wakes(times: int) -> float:
    cpus = sorted(os.sched_getaffinity(0))
    to, back = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.sched_setaffinity(0, {cpus[-1]})
        for _ in range(times):
            written = os.read(to[0], 8)
            os.write(back[1], struct.pack("d", perf_counter() - struct.unpack("d", written)[0]))
        os._exit(0)
    os.sched_setaffinity(0, {cpus[0]})
    found = []
    for _ in range(times):
        sleep(_PAUSE_S)
        os.write(to[1], struct.pack("d", perf_counter()))
        found.append(struct.unpack("d", os.read(back[0], 8))[0])
    os.wait()
    return float(np.median(found))


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
    layer, weights = np.ones((_ROWS, _INPUTS), np.float32), np.ones((_INPUTS, _OUTPUTS), np.float32)
    out = layer @ weights
    together.wait()
    ends = [perf_counter()]
    while ends[-1] < ends[0] + seconds:
        np.matmul(layer, weights, out=out)
        ends.append(perf_counter())
    found.put((cpu, speeds_of(ends)))


def speeds_of(ends: list[float]) -> tuple[float, ...]:
    """Pieces in each window, from when each ended, the first the beginning. Each counts where it was done, in parts."""
    windows = int((ends[-1] - ends[0]) / WINDOW_S)
    done = np.zeros(windows + 1)
    for start, end in pairwise(ends):
        _share_out(done, (start - ends[0]) / WINDOW_S, (end - ends[0]) / WINDOW_S)
    done = done[:windows]
    return tuple(round(float(each), 3) for each in done)


def _share_out(done: "np.ndarray[tuple[int], np.dtype[np.float64]]", start: float, end: float) -> None:
    for window in range(int(start), min(int(end), len(done) - 1) + 1):
        overlap = min(end, window + 1) - max(start, window)
        done[window] += overlap / (end - start)


if __name__ == "__main__":
    what = sys.argv[1:]
    print(_wakes(int(what[1])) if what[0] == "wake" else json.dumps(_measured(float(what[0]))))
