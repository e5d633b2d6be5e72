"""A page of metrics on which each has a number: what one service alone cannot show, a GPU among it."""

from contextlib import closing
from itertools import product

from app.system.worker_context import WorkerContext
from app.telemetry.drift import WINDOW
from app.telemetry.gpu import GpuMetrics
from app.telemetry.instruments import Counter, Gauge, Histogram
from app.telemetry.metrics import Metrics
from app.telemetry.nvml import GpuSample
from tests.app.servers import until
from tests.app.telemetry.test_drift import expected, window_of

GPU = GpuSample(
    "0",
    "GPU-00000000-0000-0000-0000-000000000000",
    "a card",
    {
        "utilization_ratio": 0.5,
        "memory_used_bytes": 1e9,
        "memory_bytes": 2e9,
        "temperature_celsius": 60,
        "power_watts": 200,
    },
)
_VALUES = {
    "endpoint": ("/classify", "/classify/batch"),
    "status": ("200", "429", "500"),
    "stage": ("receive", "decode", "queue", "infer", "respond"),
    "provider": ("cpu", "cuda"),
    "outcome": ("classified", "right", "wrong", "refused", "kept", "failed", "dropped_limit", "agree", "differ"),
    "of": ("images", "connections", "upload_bytes", "decode_bytes"),
}


class Everything:
    """A service's metrics that all grow from page to page. `close` when no more pages are wanted."""

    def __init__(self) -> None:
        self._worker = WorkerContext()
        self._metrics = Metrics(self._worker.shared_memory)
        self._metrics.drift.windows = lambda: {"some": window_of(expected(WINDOW))}
        self._gpu = GpuMetrics(lambda: lambda: GPU)
        self._metrics.register(self._gpu)
        self._gpu.start()
        until(lambda: b"mixer_gpu_" in self._metrics.render())

    def page(self) -> bytes:
        """The text of /metrics, when everything has happened once more."""
        _count_all(self._metrics)
        return self._metrics.render()

    def close(self) -> None:
        self._gpu.close()


def page_of_everything() -> bytes:
    """One page."""
    with closing(Everything()) as everything:
        return everything.page()


def _count_all(metrics: Metrics) -> None:
    for metric in (*vars(metrics).values(), *vars(metrics.shadow).values()):
        if isinstance(metric, Counter | Histogram):
            for values in product(*(_VALUES.get(label, ("some",)) for label in metric.label_names)):
                _count(metric, values)


def _count(metric: Counter | Histogram, values: tuple[str, ...]) -> None:
    if isinstance(metric, Gauge):
        metric.labels(*values).set(1)
    elif isinstance(metric, Counter):
        metric.labels(*values).inc()
    else:
        metric.labels(*values).observe(0.3)
