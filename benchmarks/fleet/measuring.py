"""The parameters of the simulation, measured: bare work in threads, and the real service. Knows nothing simulated.

What a run and a decoding take is measured alone, on one thread; what they take when all CPUs are busy, and what the
event loop takes, by the real service's threads, in a closed loop of many connections. `accept_s` and `answer_s` are
shares of what the event loop takes for a request, which no clock tells apart.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from app.system.cpu_limits import usable_cpus
from benchmarks.fleet.observed import Load
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.subject import Subject
from benchmarks.fleet.threads import processor_name

_ACCEPT, _ANSWER = 0.55, 0.45  # shares of the event loop's time for a request
_WAKES = 2  # of the event loop for a request that is alone: it arrives, and has its answer
_LAPS_S, _FEWEST_LAPS = 2.0, 3

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Bare:
    """Processor seconds of one thread: a run's fixed part, an image in it, each picture's decoding; runs' spread."""

    run_s: float
    image_s: float
    decode_s: tuple[float, ...]
    spread: float


def bare(subject: Subject) -> Bare:
    """Measure work without a service."""
    files = subject.workload.files
    patches = [subject.decoder(file) for file in files]
    most = subject.engine.max_batch_size
    sizes = sorted({1, 2, 4, most // 2, most} - {0})
    batches = {size: [patches[number % len(patches)] for number in range(size)] for size in sizes}
    runs = [lambda size=size: subject.engine.run(batches[size]) for size in sizes]
    decodings = [lambda file=file: subject.decoder(file) for file in files]
    return bare_of(sizes, laps([*runs, *decodings]))


def laps(works: Sequence[Callable[[], object]], seconds: float = _LAPS_S) -> Times:
    """Processor seconds of each work, lap after lap, each work once a lap: float64 [laps, works]."""
    found: list[list[float]] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found) <= _FEWEST_LAPS:
        found.append([_seconds(work) for work in works])
    return np.array(found[1:])  # the first finds cold caches


def bare_of(sizes: Sequence[int], found: Times) -> Bare:
    """Of laps of a run of each of these sizes and then each decoding.

    A lap is short, and the machine's speed changes from lap to lap: what counts is each work's share of its lap.
    """
    whole = found.sum(1, keepdims=True)
    each = np.median(found / whole, 0) * float(np.median(whole))
    image_s, run_s = np.polyfit(sizes, each[: len(sizes)], 1)
    low, high = np.percentile(np.log(found[:, 0] / whole[:, 0]), [25, 75])
    decode_s = tuple(map(float, each[len(sizes) :]))
    return Bare(max(0.0, float(run_s)), float(image_s), decode_s, float(high - low) / 1.35)


def _seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


@dataclass(frozen=True)
class _Threads:
    """What runs take in the service's threads, and how much slower CPUs are where all are busy.

    scale: how many times as long as bare work an image and its decoding take.
    """

    run_s: float
    image_s: float
    scale: float
    together: float


def parameters(
    measured: Bare,
    alone: Load,
    many: Load,
    beyond: Load,
    *,
    max_batch_size: int,
    cpus: int,
    ready_s: float,
    drain_s: float,
    circumstances: dict[str, str],
) -> Parameters:
    """Of bare work, a closed loop of one connection, one of many, and an open loop far beyond the capacity."""
    found = _in_threads(measured, alone, many)
    together = found.together
    request_s = _each(many.used.loop, many.answered) * together
    wake_s = max(0.0, (_each(alone.used.loop, alone.answered) - request_s) / _WAKES)
    client_s = _each(many.client_s, many.answered) * together
    client_wake_s = max(0.0, _each(alone.client_s, alone.answered) - client_s)  # one, as it hears and asks again
    refuse_s = max(0.0, beyond.used.loop * together - beyond.answered * request_s) / max(1, beyond.turned_away)
    return Parameters(
        run_s=found.run_s, image_s=found.image_s,
        decode_s=tuple(found.scale * each for each in measured.decode_s),
        accept_s=_ACCEPT * request_s, answer_s=_ANSWER * request_s,
        wake_s=wake_s, refuse_s=refuse_s, client_s=client_s / 2, client_wake_s=client_wake_s,
        together=together, max_batch_size=max_batch_size, cpus=cpus, workers=cpus, ready_s=ready_s, drain_s=drain_s,
        run_spread=measured.spread, circumstances=circumstances,
    )  # fmt: skip


def _in_threads(measured: Bare, alone: Load, many: Load) -> _Threads:
    """From one request at a time, as slow as the service's threads are; where many cost more, CPUs are slower together.

    Where many cost less, a run that is alone finds cold caches: then both loads together tell what a run costs besides
    its images, and nothing is slower.
    """
    run_alone, run_many = _each(alone.used.runs, alone.answered), _each(many.used.runs, many.answered)
    decode_s, share = float(np.mean(measured.decode_s)), 1 / many.images_a_run
    scale = run_alone / (measured.run_s + measured.image_s + decode_s)
    expected = scale * (measured.run_s * share + measured.image_s + decode_s)
    if expected <= run_many:
        return _Threads(scale * measured.run_s, scale * measured.image_s, scale, expected / run_many)
    run_s = max(0.0, (run_alone - run_many) / (1 - share)) if share < 1 else 0.0
    scale = (run_many - run_s * share) / (measured.image_s + decode_s)
    return _Threads(run_s, scale * measured.image_s, scale, 1.0)


def _each(seconds: float, count: int) -> float:
    if not count:
        raise ValueError("No request was answered while the parameters were measured; expected some hundreds.")
    return seconds / count


def middle_bare(found: Sequence[Bare]) -> Bare:
    """Of several rounds: the medians of what each part was of the whole, and of the whole."""
    parts = np.array([[one.run_s, one.image_s, *one.decode_s] for one in found])
    whole = parts.sum(1, keepdims=True)
    run_s, image_s, *decode_s = map(float, np.median(parts / whole, 0) * float(np.median(whole)))
    return Bare(run_s, image_s, tuple(decode_s), float(np.median([one.spread for one in found])))


def circumstances(subject: Subject) -> dict[str, str]:
    """Machine, model and versions."""
    spec = subject.engine.spec
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{processor_name()}, {usable_cpus()} CPUs",
        "load average": f"{os.getloadavg()[0]:.1f} when it ended",
        "model": f"{spec.name} in {subject.engine.precision}",
        "pictures": subject.workload.description,
        "versions": f"Python {platform.python_version()}, ONNX Runtime {version('onnxruntime')}, "
        f"mixer-serve {version('mixer-serve')}",
    }
