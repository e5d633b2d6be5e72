"""The parts of a classifier to time without HTTP and without a queue: decoding, the model, both. Knows no clock.

Each is a ceiling of the service's rate.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.engine.runners import Patches
from cli.bench.rig import Opened
from cli.bench.stopwatch import Candidate
from model.spec import Precision

Decode = Callable[[bytes], Patches]


@dataclass(frozen=True)
class Decoding:
    """Picture files to patches, in `threads` threads."""

    threads: int


@dataclass(frozen=True)
class Running:
    """The model alone, on patches in memory: `instances` batches at once, each run by `threads` CPU threads."""

    precision: Precision
    instances: int
    threads: int
    batch_size: int


@dataclass(frozen=True)
class Classifying:
    """Both, in bare threads: each decodes `batch_size` pictures, then runs them in the next instance that is free."""

    precision: Precision
    instances: int
    threads: int
    batch_size: int


def doublings(most: int) -> list[int]:
    """1, 2, 4, ... and `most` itself."""
    return sorted({*itertools.takewhile(lambda size: size < most, (2**power for power in itertools.count())), most})


def decodings(files: Sequence[bytes], decode: Decode, cpus: int) -> list[Candidate[Decoding]]:
    """Decoding in 1, 2, 4, ... threads, up to one for each CPU."""
    images = itertools.count()

    def work() -> float:
        decode(files[next(images) % len(files)])
        return 1

    return [Candidate(Decoding(threads), work, threads) for threads in doublings(cpus)]


def runnings(opened: Opened, patches: Sequence[Patches], batch_sizes: Sequence[int]) -> list[Candidate[Running]]:
    """The model alone, each batch full of pictures, in as many threads as there are instances."""

    def candidate(batch_size: int) -> Candidate[Running]:
        batch = list(itertools.islice(itertools.cycle(patches), batch_size))

        def work() -> float:
            opened.run(batch)
            return batch_size

        key = Running(opened.precision, opened.split.instances, opened.split.threads, batch_size)
        return Candidate(key, work, opened.split.instances)

    return [candidate(batch_size) for batch_size in batch_sizes]


def classifyings(
    opened: Opened, files: Sequence[bytes], decode: Decode, cpus: int, batch_sizes: Sequence[int]
) -> list[Candidate[Classifying]]:
    """Decoding and running in a thread for each CPU; no more of them run at once than there are instances."""
    free_instances = threading.Semaphore(opened.split.instances)
    images = itertools.count()

    def candidate(batch_size: int) -> Candidate[Classifying]:
        def work() -> float:
            batch = [decode(files[next(images) % len(files)]) for _ in range(batch_size)]
            with free_instances:
                opened.run(batch)
            return batch_size

        key = Classifying(opened.precision, opened.split.instances, opened.split.threads, batch_size)
        return Candidate(key, work, max(cpus, opened.split.instances))

    return [candidate(batch_size) for batch_size in batch_sizes]
