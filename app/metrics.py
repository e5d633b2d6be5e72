"""Every metric once, in seconds and bytes, and safe with several worker processes.

With PROMETHEUS_MULTIPROC_DIR set, each process writes to files there and any of them answers for all.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """The service's metrics in one registry."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "mixer_requests", "Requests answered, by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "mixer_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.images = Counter("mixer_images", "Pictures, by what became of them.", ["outcome"], registry=registry)
        self.stage_seconds = Histogram(
            "mixer_stage_seconds",
            "Where a picture's time goes: receive, decode, queue, infer, respond.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram("mixer_batch_size", "Pictures in a run.", buckets=_BATCH_SIZES, registry=registry)
        self.padding_images = Counter(
            "mixer_padding_images", "Empty places in runs, filled up to the next prepared size.", registry=registry
        )
        self.queue_depth = Gauge(
            "mixer_queue_depth", "Pictures waiting for a lane.", multiprocess_mode="livesum", registry=registry
        )
        self.in_flight = Gauge(
            "mixer_in_flight",
            "Pictures inside the service: decoding, waiting or running.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.rejected_pictures = Counter(
            "mixer_rejected", "Pictures refused before any work, by reason.", ["reason"], registry=registry
        )
        self.dropped_pictures = Counter(
            "mixer_dropped", "Pictures given up, by stage and reason.", ["stage", "reason"], registry=registry
        )
        self.top1_probability = Histogram(
            "mixer_top1_probability",
            "Probability of the most probable label; a shift shows pictures unlike those of training.",
            buckets=_PROBABILITIES,
            registry=registry,
        )
        self.predictions = Counter(
            "mixer_predictions", "Pictures, by their most probable label.", ["label"], registry=registry
        )
        self.engine_info = Gauge(
            "mixer_engine_info",
            "1 for what is really running.",
            ["provider", "precision", "model", "version"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    def render(self) -> bytes:
        """The metrics of the whole service in Prometheus' text format."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    # --- what the batcher observes ---

    def depth(self, waiting: int, in_flight: int) -> None:
        """Pictures waiting for a lane, and pictures inside the service."""
        self.queue_depth.set(waiting)
        self.in_flight.set(in_flight)

    def ran(self, batch_size: int) -> None:
        """A batch was run."""
        self.batch_size.observe(batch_size)

    def dropped(self, stage: str, reason: str) -> None:
        """A picture was given up."""
        self.dropped_pictures.labels(stage, reason).inc()

    def rejected(self, reason: str, count: int) -> None:
        """So many pictures were refused."""
        self.rejected_pictures.labels(reason).inc(count)
