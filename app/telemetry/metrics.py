"""Every metric once, in seconds and bytes, of all worker processes together.

Knows what is counted, and not how. The text format is prometheus_client's.
"""

import json
import time
from collections.abc import Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from app.system.shared_memory import Segment, SharedMemory
from app.telemetry.drift import Drift
from app.telemetry.exemplars import SUFFIX
from app.telemetry.instruments import Counter, Family, Gauge, Histogram, Number, Samples, add, record, set_both
from app.telemetry.shadow_metrics import ShadowMetrics
from app.telemetry.tracing import SpanId
from app.telemetry.worker_metrics import WorkerMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_NO_STAGES: Mapping[str, float] = {}
_STAGES = ("receive", "decode", "queue", "infer", "respond")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Metrics:
    """The service's metrics. This process counts in its own segment of the shared memory."""

    def __init__(self, shared_memory: SharedMemory | None = None, worker: int = 0) -> None:
        self._shared_memory = shared_memory or SharedMemory()
        segment = self._shared_memory.segment(worker)
        self._count_requests(segment)
        self._count_images(segment)
        self._count_by_model(segment)
        self._watch_service(segment)
        self._count_kept(segment)
        self.shadow = ShadowMetrics(segment)
        self._registry = CollectorRegistry()
        self._registry.register(_Scrape(self))
        self.of_workers = WorkerMetrics(self._shared_memory, segment, worker)
        self._registry.register(self.of_workers)
        self._begin_at_zero()
        self._queued, self._held = self.queue_depth.labels(), self.in_flight.labels()
        self._padding = self.padding_images.labels()
        self._answered = self.classified_requests.labels()
        self._answered_seconds = {stage: self.classified_request_seconds.labels(stage) for stage in _STAGES[1:4]}
        self._sizes, self._last_run = self.batch_size.labels(), self.last_run.labels()
        self._uncertain = self.uncertain.labels()
        self._best, self._classified = self.top1_probability.labels(), self.images.labels("classified")
        self._answers: dict[tuple[str, int, str | None], list[Number]] = {}  # what counts them, by what they are
        self._stages = {stage: self.stage_seconds.labels(stage) for stage in _STAGES}

    def _count_requests(self, segment: Segment) -> None:
        """What clients sent, and what became of it, in whatever protocol."""
        counter, histogram = partial(Counter, segment), partial(Histogram, segment)
        self.requests = counter("mixer_requests", "Requests answered, by endpoint and status.", ["endpoint", "status"])
        self.errors = counter(
            "mixer_errors", "Requests that failed, by endpoint and the code of their problem.", ["endpoint", "code"]
        )
        self.request_seconds = histogram(
            "mixer_request_seconds",
            "From the first byte of a request to the last of its answer.",
            _SECONDS,
            ["endpoint"],
        )
        self.key_requests = counter("mixer_key_requests", "Requests let in by an API key, by its name.", ["key"])
        self.classified_requests = counter(
            "mixer_classified_requests", "Requests of which every picture was classified, in whatever protocol."
        )
        self.classified_request_seconds = counter(
            "mixer_classified_request_seconds",
            "Seconds of those requests in decode, queue and infer; of several pictures, the mean.",
            ["stage"],
        )

    def _count_images(self, segment: Segment) -> None:
        """Pictures and explanations, their way and their answers."""
        counter, gauge, histogram = partial(Counter, segment), partial(Gauge, segment), partial(Histogram, segment)
        self.images = counter("mixer_images", "Pictures, by what became of them.", ["outcome"])
        self.stage_seconds = histogram(
            "mixer_stage_seconds",
            "Where a picture's time goes: receive, decode, queue, infer, respond.",
            _SECONDS,
            ["stage"],
        )
        self.batch_size = histogram("mixer_batch_size", "Pictures in a run.", _BATCH_SIZES)
        self.last_run = gauge(
            "mixer_last_run_timestamp_seconds", "When the last run ended, in seconds since 1970.", together=max
        )
        self.padding_images = counter(
            "mixer_padding_images", "Empty places in runs, filled up to the next prepared size."
        )
        self.queue_depth = gauge("mixer_queue_depth", "Pictures waiting for an instance.")
        self.in_flight = gauge("mixer_in_flight", "Pictures inside the service: decoding, waiting or running.")
        self.rejected_images = counter("mixer_rejected", "Pictures refused before any work, by reason.", ["reason"])
        self.dropped_images = counter("mixer_dropped", "Pictures given up, by stage and reason.", ["stage", "reason"])
        self.top1_probability = histogram(
            "mixer_top1_probability",
            "Probability of the most probable label; a shift shows pictures unlike those of training.",
            _PROBABILITIES,
        )
        self.predictions = counter("mixer_predictions", "Pictures, by their most probable label.", ["label"])
        self.uncertain = counter("mixer_uncertain", "Pictures whose answer was uncertain: below the energy threshold.")
        self.explanations = counter(
            "mixer_explanations", "Pictures to explain, by method and what became of them.", ["method", "outcome"]
        )
        self.explanation_rows = counter(
            "mixer_explanation_rows", "Masked pictures that were run for explanations that were answered."
        )

    def _count_by_model(self, segment: Segment) -> None:
        """The same by bundle; only of several."""
        counter, gauge = partial(Counter, segment), partial(Gauge, segment)
        self.model_images = counter(
            "mixer_model_images",
            "Pictures, by the bundle that was asked and what became of them; only of several bundles.",
            ["model", "outcome"],
        )
        self.model_predictions = counter(
            "mixer_model_predictions",
            "Pictures, by the bundle that was asked and their most probable label; only of several bundles.",
            ["model", "label"],
        )
        self.model_uncertain = counter(
            "mixer_model_uncertain",
            "Pictures whose answer was uncertain, by the bundle that was asked; only of several bundles.",
            ["model"],
        )
        self.model_requests = counter(
            "mixer_model_classified_requests",
            "The same, by the bundle that was asked; only of several bundles.",
            ["model"],
        )
        self.model_seconds = counter(
            "mixer_model_classified_request_seconds",
            "Seconds of those requests, by the bundle that was asked and the stage; only of several bundles.",
            ["model", "stage"],
        )
        self.model_runs = counter(
            "mixer_model_runs", "Runs, by the bundle that was asked; only of several bundles.", ["model"]
        )
        self.model_last_run = gauge(
            "mixer_model_last_run_timestamp_seconds",
            "When the last run ended, in seconds since 1970, by the bundle that was asked; only of several bundles.",
            ["model"],
            max,
        )

    def _watch_service(self, segment: Segment) -> None:
        """How the service itself is."""
        counter, gauge, histogram = partial(Counter, segment), partial(Gauge, segment), partial(Histogram, segment)
        self.reloads = counter("mixer_reloads", "Bundles looked at by a reload, by what became of it.", ["outcome"])
        self.ready = gauge("mixer_ready", "1 where pictures may be sent, 0 where not.", together=min)
        self.canary_seconds = gauge(
            "mixer_canary_seconds", "How long the canary took last; the slowest of all.", together=max
        )
        self.canary_failures = counter(
            "mixer_canary_failures", "Canaries without their stored answer, by reason.", ["reason"]
        )
        self.canary_last_success = gauge(
            "mixer_canary_last_success_timestamp_seconds",
            "When all canaries last had their stored answers, in seconds since 1970; the longest ago of all processes.",
            together=min,
        )
        self.connections = gauge("mixer_connections", "Open connections.")
        self.limit = gauge(
            "mixer_limit", "Limits of the whole service: images, background, connections, bytes.", ["of"], max
        )
        self.worker_restarts = counter("mixer_worker_restarts", "Workers that died or hung, and were replaced.")
        self.workers_down = gauge("mixer_workers_down", "Workers that cannot start again, or take long to.")
        self.decode_overruns = counter(
            "mixer_decode_overruns",
            "Pictures whose decoding took more processor time than MIXER_DECODE_CPU_LIMIT_S; each cost a process.",
        )
        self.event_loop_lag = histogram(
            "mixer_event_loop_lag_seconds", "How late the event loop came to what it does each half second.", _SECONDS
        )
        self.engine_info = gauge(
            "mixer_engine_info", "1 for what is really running.", ["provider", "precision", "model", "version"], max
        )

    def _count_kept(self, segment: Segment) -> None:
        """Pictures that are kept for people to look at, and what these say."""
        self.collected = Counter(
            segment, "mixer_collected", "Pictures that a rule chose to keep, by what became of them.", ["outcome"]
        )
        self.feedback = Counter(
            segment,
            "mixer_feedback",
            "Kept pictures whose true label somebody said first: whether the most probable one was right or wrong.",
            ["model", "outcome"],
        )
        self.drift = Drift(
            segment,
            "mixer_drift_psi",
            "Population stability index of a model's last answers against those to its held-out pictures.",
        )

    def _begin_at_zero(self) -> None:
        """Alerts watch these grow: what is not there before the first time does not grow for Prometheus."""
        for reason in ("queue_full", "uploads_full", "draining"):
            self.rejected_images.labels(reason)
        for reason in ("wrong_answer", "deadline_passed", "inference_failed", "provider", "stuck_run", "check_failed"):
            self.canary_failures.labels(reason)
        self.reloads.labels("refused")

    def register(self, collector: Collector) -> None:
        """Have what another collector tells on /metrics, too."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """The metrics of the whole service in Prometheus' text format."""
        return generate_latest(self._registry)

    def render_open_metrics(self) -> bytes:
        """The same in the format OpenMetrics, with exemplars."""
        return bytes(openmetrics.generate_latest(self._registry))  # type: ignore[no-untyped-call]

    def families(self) -> Iterator[Family]:
        """Every metric with its samples, from all rows of the shared memory."""
        self.drift.publish()
        samples = self.numbers()
        for metric in (*vars(self).values(), *vars(self.shadow).values()):
            if isinstance(metric, Histogram):
                yield metric.family(samples.get(metric.name, {}), samples.get(metric.name + SUFFIX))
            elif isinstance(metric, Counter | Drift):
                yield metric.family(samples.get(metric.name, {}))

    def numbers(self) -> dict[str, Samples]:
        """The numbers of all processes by the metric's name and its labels' values."""
        samples: dict[str, Samples] = {}
        for segment in self._shared_memory.segments():
            for full_name, numbers in segment.read():
                name, *values = json.loads(full_name)
                samples.setdefault(name, {}).setdefault(tuple(values), []).append(numbers)
        return samples

    # --- what happens to requests ---

    def answered(
        self,
        endpoint: str,
        status: int,
        duration_s: float | None = None,
        code: str | None = None,
        stages: Mapping[str, float] = _NO_STAGES,
    ) -> None:
        """A request got its answer. `code`: of its problem, if it has one; `stages`: seconds in receive and respond."""
        counters = self._answers.get((endpoint, status, code))
        if counters is None:
            counters = self._answers[endpoint, status, code] = self._counters_of(endpoint, status, code)
        observed = list(zip(map(self._stages.__getitem__, stages), stages.values(), strict=True)) if stages else []
        if duration_s is not None:
            observed.append((self.request_seconds.labels(endpoint), duration_s))
        record(counters, observed)

    def _counters_of(self, endpoint: str, status: int, code: str | None) -> list[Number]:
        counters = [self.requests.labels(endpoint, str(status))]
        if code is not None:
            counters.append(self.errors.labels(endpoint, code))
        return counters

    def exemplify(self, endpoint: str, duration_s: float, stages: Mapping[str, float], ident: SpanId) -> None:
        """A request that was sampled has been answered: its seconds in all, and those of a picture in each stage."""
        self.request_seconds.exemplify((endpoint,), duration_s, ident)
        for stage, spent_s in stages.items():
            self.stage_seconds.exemplify((stage,), spent_s, ident)

    # --- what the classifier observes ---

    def classified(self, label: str, probability: float, seconds: Mapping[str, float], uncertain: bool = False) -> None:
        """A picture got its labels: the best of them, and the seconds it spent in decode, queue and infer."""
        if uncertain:
            self._uncertain.inc()
        stages = zip(map(self._stages.__getitem__, seconds), seconds.values(), strict=True)
        record((self._classified, self.predictions.labels(label)), ((self._best, probability), *stages))

    def classified_request(self, seconds: Mapping[str, float]) -> None:
        """All pictures of a request were classified; the seconds that it spent in decode, queue and infer."""
        numbers = self._answered_seconds
        add(((self._answered, 1), *zip(map(numbers.__getitem__, seconds), seconds.values(), strict=True)))

    def lost(self, outcome: str, count: int = 1) -> None:
        """Pictures got none."""
        self.images.labels(outcome).inc(count)

    def explained(self, method: str, outcome: str, rows: int = 0) -> None:
        """A picture got its explanation, of so many rows, or none."""
        self.explanations.labels(method, outcome).inc()
        self.explanation_rows.labels().inc(rows)

    def padded(self, count: int) -> None:
        """A run was padded with `count` empty images."""
        self._padding.inc(count)

    # --- what the batcher observes ---

    def ran(self, count: int) -> None:
        """So many pictures were run together."""
        self._sizes.observe(count)
        self._last_run.set(time.time())

    def depth(self, waiting: int, in_flight: int) -> None:
        """Pictures waiting for an instance, and pictures inside the service."""
        set_both(self._queued, waiting, self._held, in_flight)

    def dropped(self, stage: str, reason: str) -> None:
        """A picture was given up."""
        self.dropped_images.labels(stage, reason).inc()

    def rejected(self, reason: str, count: int) -> None:
        """`count` pictures were refused."""
        self.rejected_images.labels(reason).inc(count)


class _Scrape(Collector):
    """What prometheus_client asks for the metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        return self._metrics.families()
