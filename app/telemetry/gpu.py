"""Metrics of the GPU that models run on: sampled by a thread of its own, and told as long as they are fresh.

A scrape only reads what was sampled last, so that a driver that hangs costs metrics and nothing else. Whichever worker
answers a scrape tells its own sample, so that a GPU is there once, however many workers use it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.telemetry.nvml import GpuSample, NoGpu

STALE_S = 30.0  # what is older is not told: the thread hangs, or the GPU has gone
_FAMILIES = {
    "utilization_ratio": "Share of the last moments in which the GPU ran a kernel.",
    "memory_used_bytes": "Memory of the GPU that is in use, whoever uses it.",
    "memory_bytes": "Memory of the GPU in all.",
    "temperature_celsius": "Temperature of the GPU.",
    "power_watts": "What the whole GPU takes; that of a slice is its GPU's.",
}

log = logging.getLogger("mixer.gpu")


class GpuMetrics(Collector):
    """`open_sampler`: what samples the GPU, opened in the thread; raises NoGpu or anything else, as each sample may.

    `interval_s`: between samples; `patience_s`: until a GPU that did not answer is asked again.
    """

    def __init__(
        self,
        open_sampler: Callable[[], Callable[[], GpuSample]],
        clock: Callable[[], float] = time.monotonic,
        interval_s: float = 5.0,
        patience_s: float = 60.0,
    ) -> None:
        self._open, self._clock = open_sampler, clock
        self._interval_s, self._patience_s = interval_s, patience_s
        self._latest: tuple[float, GpuSample] | None = None
        self._ended = threading.Event()
        self._said = ""

    def start(self) -> None:
        """Sample from now on. A daemon: a call that never returns keeps no process from ending."""
        threading.Thread(target=self._run, name="gpu", daemon=True).start()

    def close(self) -> None:
        """Sample no more, and wait for nothing."""
        self._ended.set()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What a scrape reads; nothing where there is nothing fresh."""
        latest = self._latest
        if latest is None or self._clock() - latest[0] > STALE_S:
            return
        sample = latest[1]
        for of, words in _FAMILIES.items():
            if of in sample.values:
                family = GaugeMetricFamily(f"mixer_gpu_{of}", words, labels=["gpu", "uuid", "name"])
                family.add_metric([sample.index, sample.uuid, sample.name], sample.values[of])
                yield family

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._keep_sampling(self._open())
            except Exception as failure:  # noqa: BLE001 -- a driver's own, whatever it is
                self._say(str(failure) if isinstance(failure, NoGpu) else repr(failure))
                self._ended.wait(self._patience_s)

    def _keep_sampling(self, sample: Callable[[], GpuSample]) -> None:
        while not self._ended.is_set():
            self._latest = (self._clock(), sample())
            self._said = ""
            self._ended.wait(self._interval_s)

    def _say(self, words: str) -> None:
        """Once, until it has answered again."""
        if words != self._said:
            log.warning("no metrics of the GPU: %s", words)
            self._said = words
