"""What each worker has, and what all hold of the limits that they share: read at a scrape from where it stands anyway.

A segment outlives its process, so that only workers that live are told. Counts nothing, and costs a picture nothing.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from app.system.shared_memory import Segment, SharedMemory
from app.system.worker_status import CONNECTIONS, HEARTBEAT, Shared, name_of_shares
from app.telemetry.instruments import Family, Number

_STATM = Path("/proc/self/statm")
_CPU, _RESIDENT = '["mixer_worker_cpu_seconds"]', '["mixer_worker_resident_bytes"]'  # as they stand in a segment
_NOTHING = (0.0,)

# A metric's name, its words, and the number that it shows of each worker.
_GAUGES = (
    ("mixer_worker_connections", "Open connections, by worker.", CONNECTIONS),
    ("mixer_worker_in_flight", "Pictures that decode, wait or run, by worker.", '["mixer_in_flight"]'),
    ("mixer_worker_resident_bytes", "Resident memory of a worker, with what it shares with others.", _RESIDENT),
)
_COUNTERS = (
    ("mixer_worker_images", "Pictures that were classified, by worker.", '["mixer_images", "classified"]'),
    ("mixer_worker_cpu_seconds", "Processor time of a worker, all its threads together.", _CPU),
)

Numbers = Mapping[str, Sequence[float]]


class WorkerMetrics(Collector):
    """Metrics with the label `worker`, and `mixer_in_use`. `segment`: that of this worker, where `update` writes."""

    def __init__(self, shared_memory: SharedMemory, segment: Segment, worker: int) -> None:
        self._shared_memory, self._worker = shared_memory, worker
        self._cpu_seconds, self._resident_bytes = Number(segment, _CPU), Number(segment, _RESIDENT)

    def update(self) -> None:
        """Write down this process's processor time and memory, for a scrape that another one answers."""
        self._cpu_seconds.set(time.process_time())
        with suppress(OSError):  # only Linux has it
            pages = int(_STATM.read_text(encoding="ascii").split()[1])
            self._resident_bytes.set(pages * os.sysconf("SC_PAGE_SIZE"))

    def collect(self) -> Iterator[Family]:
        """What a scrape reads."""
        self.update()
        segments: list[Numbers] = [dict(segment.read()) for segment in self._shared_memory.segments()]
        workers = {str(number): numbers for number, numbers in enumerate(segments) if self._works(number, numbers)}
        for name, words, source in _GAUGES:
            yield _of_each(GaugeMetricFamily(name, words, labels=["worker"]), workers, source)
        for name, words, source in _COUNTERS:
            yield _of_each(CounterMetricFamily(name, words, labels=["worker"]), workers, source)
        yield _in_use(segments[-1])

    def _works(self, number: int, numbers: Numbers) -> bool:
        """Whether a segment is a worker's that lives: this one, or one whose event loop goes round."""
        return number == self._worker or bool(numbers.get(HEARTBEAT, _NOTHING)[0])


def _of_each(
    family: GaugeMetricFamily | CounterMetricFamily, workers: Mapping[str, Numbers], source: str
) -> GaugeMetricFamily | CounterMetricFamily:
    """The family with a number of each worker."""
    for worker, numbers in workers.items():
        family.add_metric([worker], numbers.get(source, _NOTHING)[0])
    return family


def _in_use(supervisors: Numbers) -> GaugeMetricFamily:
    """What stands in the segment where all workers have their shares."""
    words = "How much of a limit that all workers share is taken: images, background, upload_bytes, decode_bytes."
    family = GaugeMetricFamily("mixer_in_use", words, labels=["of"])
    for what in get_args(Shared):
        if (shares := supervisors.get(name_of_shares(what))) is not None:
            family.add_metric([what], sum(shares))
    return family
