"""What each classifier of a process counts: with those of all others, and under its own name where there are several.

The batchers of an old classifier and of the one that takes over both have pictures inside: the gauges show the sum.
"""

import time
from collections.abc import Callable, Mapping

from app.telemetry.metrics import Metrics


class MetricsByModel:
    """The metrics of each model. `several`: whether pictures are counted by the model's name, too."""

    def __init__(self, metrics: Metrics, *, several: bool = False) -> None:
        self.metrics = metrics
        self.waiting = self.in_flight = 0
        self._several = several

    def of(self, model: str) -> "ModelMetrics":
        """New metrics, for a classifier that is served under this name."""
        return NamedModelMetrics(self, model) if self._several else ModelMetrics(self)


class ModelMetrics:
    """What one classifier and its batcher observe."""

    def __init__(self, together: MetricsByModel) -> None:
        metrics = together.metrics
        self._together, self._metrics = together, metrics
        self._waiting = self._in_flight = 0
        # Nothing is added to these here: a call through a method of this class would cost as much as what it does.
        self.ran, self.dropped, self.rejected = metrics.ran, metrics.dropped, metrics.rejected
        self.classified, self.lost, self.padded = metrics.classified, metrics.lost, metrics.padded
        self.classified_request: Callable[[Mapping[str, float]], None] = metrics.classified_request

    def depth(self, waiting: int, in_flight: int) -> None:
        """Pictures of this classifier that wait for an instance, and all of its pictures."""
        if waiting != self._waiting or in_flight != self._in_flight:
            together = self._together
            together.waiting += waiting - self._waiting
            together.in_flight += in_flight - self._in_flight
            self._waiting, self._in_flight = waiting, in_flight
            self._metrics.depth(together.waiting, together.in_flight)


class NamedModelMetrics(ModelMetrics):
    """Metrics of a model whose pictures are counted under its name, too."""

    def __init__(self, together: MetricsByModel, model: str) -> None:
        super().__init__(together)
        self._model = model
        self.classified, self.lost, self.ran = self._classified, self._lost, self._ran
        self.classified_request = self._classified_request

    def _classified(
        self, label: str, probability: float, seconds: Mapping[str, float], uncertain: bool = False
    ) -> None:
        self._metrics.classified(label, probability, seconds, uncertain)
        if uncertain:
            self._metrics.model_uncertain.labels(self._model).inc()
        self._metrics.model_images.labels(self._model, "classified").inc()
        self._metrics.model_predictions.labels(self._model, label).inc()

    def _classified_request(self, seconds: Mapping[str, float]) -> None:
        self._metrics.classified_request(seconds)
        self._metrics.model_requests.labels(self._model).inc()
        for stage, spent_s in seconds.items():
            self._metrics.model_seconds.labels(self._model, stage).inc(spent_s)

    def _ran(self, count: int) -> None:
        self._metrics.ran(count)
        self._metrics.model_runs.labels(self._model).inc()
        self._metrics.model_last_run.labels(self._model).set(time.time())

    def _lost(self, outcome: str, count: int = 1) -> None:
        self._metrics.lost(outcome, count)
        self._metrics.model_images.labels(self._model, outcome).inc(count)


class TriedModelMetrics(NamedModelMetrics):
    """Metrics of a second model, which answers a share of requests. `told`: what became of each picture of those."""

    def __init__(self, together: MetricsByModel, model: str, told: Callable[[str], None]) -> None:
        super().__init__(together, model)
        self._told = told
        self.classified, self.lost = self._classified_and_told, self._lost_and_told

    def _classified_and_told(
        self, label: str, probability: float, seconds: Mapping[str, float], uncertain: bool = False
    ) -> None:
        self._classified(label, probability, seconds, uncertain)
        self._told("classified")

    def _lost_and_told(self, outcome: str, count: int = 1) -> None:
        self._lost(outcome, count)
        self._told(outcome)


class AsideMetrics(ModelMetrics):
    """Metrics of a model whose pictures are answered by another: nothing of it is the service's."""

    def __init__(self, together: MetricsByModel) -> None:
        super().__init__(together)
        self.ran = self.dropped = self.rejected = self.classified = self.lost = self.padded = _not_counted
        self.classified_request = _not_counted

    def depth(self, waiting: int, in_flight: int) -> None:
        """Nobody waits for it."""


def _not_counted(*observed: object, **more: object) -> None:
    """What becomes of pictures aside is counted by whoever offers them."""
