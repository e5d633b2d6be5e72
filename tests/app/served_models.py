"""Models as tests need them: over any engine, under any name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.decoding.decoder import DecodeLimits
from app.engine.engine import Engine
from app.inference.admission import Limits
from app.inference.classifier import Classifier
from app.inference.undecoded import Decoding
from app.serving.registry import Model, Models
from app.system.quota import Quota
from app.telemetry.model_metrics import MetricsByModel
from tests.app.fakes import WatchedMetrics


class Shop:
    """Makes models that share metrics and decoding, and ends the threads that decode."""

    def __init__(self, default: str = "") -> None:
        self.metrics = WatchedMetrics()
        self.models = Models(self.metrics, default=default, patience_s=60, on_gone=self._count)
        self.permits: Quota | None = None  # those that all classifiers made from now on have together
        self.gone = 0
        self.decoding = Decoding(1, DecodeLimits(1 << 20, 1 << 20))
        self._metrics_by_model = MetricsByModel(self.metrics)

    def make(
        self, engine: Engine, name: str = "colours", *, lost: Callable[[], str | None] = lambda: None, **limits: Any
    ) -> Model:
        limits = {"instances": engine.instances, "max_batch_size": engine.max_batch_size, **limits}
        classifier = Classifier(
            engine,
            limits=Limits(**limits),
            decoding=self.decoding,
            metrics=self._metrics_by_model.of(name),
            permits=self.permits,
        )
        return Model(name, (), classifier, lost)

    def serve(self, engine: Engine, name: str = "colours", **options: Any) -> Model:
        model = self.make(engine, name, **options)
        self.models.take(model)
        return model

    def _count(self) -> None:
        self.gone += 1

    def close(self) -> None:
        self.models.close()
        self.decoding.close()


@contextmanager
def shop_of(engine: Engine | None = None, default: str = "", **options: Any) -> Iterator[Shop]:
    """A shop; with an engine, one that serves it."""
    shop = Shop(default)
    if engine is not None:
        shop.serve(engine, **options)
    yield shop
    shop.close()
