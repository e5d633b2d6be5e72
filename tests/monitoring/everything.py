"""A page of metrics on which each has a number: what one service alone cannot show, a GPU among it."""

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


def page_of_everything() -> bytes:
    """The text of /metrics."""
    worker = WorkerContext()
    metrics = Metrics(worker.shared_memory)
    for metric in (*vars(metrics).values(), *vars(metrics.shadow).values()):
        if isinstance(metric, Counter | Histogram):
            for values in product(*(_VALUES.get(label, ("some",)) for label in metric.label_names)):
                _count(metric, values)
    metrics.drift.windows = lambda: {"some": window_of(expected(WINDOW))}
    gpu = GpuMetrics(lambda: lambda: GPU)
    metrics.register(gpu)
    gpu.start()
    until(lambda: b"mixer_gpu_" in metrics.render())
    gpu.close()
    return metrics.render()


def _count(metric: Counter | Histogram, values: tuple[str, ...]) -> None:
    if isinstance(metric, Gauge):
        metric.labels(*values).set(1)
    elif isinstance(metric, Counter):
        metric.labels(*values).inc()
    else:
        metric.labels(*values).observe(0.3)
