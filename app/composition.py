"""What a model of a process is built of, below HTTP. Knows settings and engines; `main` puts the rest around it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.collection.opening import CollectionOptions
from app.decoding.cost_checks import DecodeBudget
from app.decoding.decoder import DecodeLimits
from app.engine.engine import Engine, EngineOptions
from app.engine.mapped_graphs import MappedGraphs
from app.engine.session import ONNX_RUNTIME, Runtime
from app.engine.sessions import SharedSessions
from app.inference.admission import Limits, most_in_background
from app.inference.classifier import Classifier, Watcher
from app.inference.undecoded import Decoding
from app.server.topology import may_run_on_gpu
from app.serving.bundles import Opened, is_one, open_bundle, read_card_again
from app.serving.loading import ModelFactory
from app.serving.registry import Model, Models
from app.serving.reload import Source
from app.settings import Settings
from app.shadow.rollout import Rollout
from app.shadow.second import Second, is_served, name_apart
from app.shadow.shadow import Shadow
from app.shadow.trial import Trial
from app.system.allocator import malloc_trim_soon
from app.system.cpu_limits import usable_cpus
from app.system.private_folder import private_folder
from app.system.quota import Quota
from app.system.worker_context import WorkerContext
from app.telemetry.drift import Window
from app.telemetry.metrics import Metrics
from app.telemetry.model_metrics import AsideMetrics, MetricsByModel, ModelMetrics, TriedModelMetrics
from app.telemetry.tracing import Emit

Options = TypeVar("Options", EngineOptions, CollectionOptions)


def engine_options(settings: Settings) -> EngineOptions:
    """The part of the settings that an engine needs, by the same names."""
    return part_of(settings, EngineOptions)


def part_of(settings: Settings, options: type[Options]) -> Options:
    """Some of the settings, by the same names."""
    return options(**{field.name: getattr(settings, field.name) for field in fields(options)})


def build_classifier(
    settings: Settings,
    engine: Engine,
    metrics: Metrics | ModelMetrics,
    decoding: Decoding,
    permits: Quota | None = None,
    background: Quota | None = None,
    processes: int = 1,
    watcher: Watcher | None = None,
    emit: Emit | None = None,
) -> Classifier:
    """A classifier over an open engine. `permits`, `background`: those that it has with others together.

    `emit`: takes the spans of its runs.
    """
    reference = engine.spec.reference
    return Classifier(
        engine,
        limits=Limits(
            instances=engine.instances,
            max_batch_size=settings.max_batch_size or engine.max_batch_size,
            max_wait_s=settings.max_wait_ms / 1000,
            queue_capacity=settings.queue_capacity,
        ),
        decoding=decoding,
        metrics=metrics,
        permits=permits,
        background=background,
        window=None if reference is None else Window(reference, processes),
        watcher=watcher,
        emit=emit,
    )


def build_decoding(settings: Settings, room: Quota | None = None) -> Decoding:
    """The threads that decode for all classifiers, and their limits. `room`: bytes that other processes share."""
    return Decoding(settings.decode_threads or usable_cpus(), build_decode_limits(settings, room))


def build_decode_limits(settings: Settings, room: Quota | None = None) -> DecodeLimits:
    """The limits of decoding alone, for those who have threads of their own."""
    budget = DecodeBudget(room or Quota(settings.decode_memory_bytes))
    return DecodeLimits(
        settings.max_image_bytes, settings.max_image_pixels, budget, reduced_scale=settings.reduced_scale
    )


@dataclass(frozen=True)
class ModelParts:
    """What all models of a process are made with. `permits`, `background`: those that they have together."""

    settings: Settings
    metrics: Metrics
    decoding: Decoding
    worker: WorkerContext
    by_model: MetricsByModel
    permits: Quota
    background: Quota
    emit: Emit | None = None
    runtime: Runtime = ONNX_RUNTIME

    def factory(self, options: EngineOptions, build: Callable[[str, Opened], Model], runtime: Runtime) -> ModelFactory:
        """Opens bundles with these options in place of the settings' own."""
        return ModelFactory(
            partial(open_bundle, options, runtime=runtime), build, partial(read_card_again, options.bundle_key)
        )

    def model(
        self, name: str, opened: Opened, metrics: ModelMetrics, watcher: Watcher | None = None, *, apart: bool = False
    ) -> Model:
        """`apart`: whether it takes no permits from others."""
        permits, background = (None, None) if apart else (self.permits, self.background)
        classifier = build_classifier(
            self.settings, opened.engine, metrics, self.decoding, permits, background, self.worker.workers, watcher,
            self.emit,
        )  # fmt: skip
        return Model(name, opened.state, classifier, opened.sessions.lost_provider, card=opened.card)


def model_parts(
    settings: Settings,
    metrics: Metrics,
    decoding: Decoding,
    worker: WorkerContext,
    emit: Emit | None,
    runtime: Runtime = ONNX_RUNTIME,
) -> ModelParts:
    """The parts that all models of this process share. `emit`: takes the spans of their runs."""
    several = not is_one(settings.bundle) or settings.shadow_answers > 0
    permits = worker.quota("images", settings.queue_capacity)
    background = worker.quota("background", most_in_background(settings.queue_capacity))
    by_model = MetricsByModel(metrics, several=several)
    return ModelParts(settings, metrics, decoding, worker, by_model, permits, background, emit, runtime)


def model_factory(parts: ModelParts, shadow: Shadow | None) -> ModelFactory:
    """Makes the models that are served. `shadow`: is told what they answer, and may be one of them."""
    settings = parts.settings
    second = None if shadow is None or shadow.rollout is None else shadow.second.named

    def build(name: str, opened: Opened) -> Model:
        metrics = parts.by_model.of(name)
        if shadow is None:
            return parts.model(name, opened, metrics)
        if shadow.rollout is not None and name == second:
            metrics = TriedModelMetrics(parts.by_model, name, partial(shadow.rollout.note, opened.engine.spec))
        return parts.model(name, opened, metrics, partial(shadow.trial.offer, name, opened.engine.spec))

    runtime = parts.runtime if is_one(settings.bundle) else SharedSessions(parts.runtime).runtime
    return parts.factory(engine_options(settings), build, runtime)


def build_shadow(parts: ModelParts, shadow: Path, models: Models) -> Shadow:
    """What is tried beside these models. Nothing is opened yet."""
    settings, metrics = parts.settings, parts.metrics.shadow
    timeout_s, answers = settings.request_timeout_s, settings.shadow_answers > 0
    is_one_of_them = is_served(shadow, settings.bundle)
    apart = Models(parts.metrics, default="", patience_s=timeout_s + 1, on_gone=malloc_trim_soon, info=metrics.info)
    found = partial(models.get, str(shadow)) if is_one_of_them else partial(_first, apart)
    rollout = Rollout(found, metrics, share=settings.shadow_answers) if answers else None
    trial = Trial(models, found, metrics, share=settings.shadow_share, timeout_s=timeout_s)
    if is_one_of_them:
        return Shadow(Second(found, named=str(shadow)), trial, rollout)

    def build(name: str, opened: Opened) -> Model:
        if rollout is None:
            return parts.model(name, opened, AsideMetrics(parts.by_model), apart=True)
        told = partial(rollout.note, opened.engine.spec)
        return parts.model(name, opened, TriedModelMetrics(parts.by_model, name_apart(name, models), told))

    options = engine_options(settings)
    if not answers:  # what is run in spare time is run one after the other
        options = replace(options, instances=1, intra_op_threads=1)
    source = Source(shadow, apart, parts.factory(options, build, parts.runtime), title="shadow ")
    return Shadow(Second(found, source), trial, rollout)


def _first(models: Models) -> Model | None:
    return next(iter(models), None)


@contextmanager
def runtime_of(settings: Settings) -> Iterator[Runtime]:
    """How all workers of a service open graphs: several on a CPU map the large ones, as long as the context lasts."""
    if settings.workers < 2 or may_run_on_gpu(settings.provider):
        yield ONNX_RUNTIME
        return
    with ExitStack() as stack:
        folder = None
        with suppress(OSError):  # nowhere to write: as if there were one
            folder = stack.enter_context(private_folder("mixer-graphs-"))
        yield ONNX_RUNTIME if folder is None else MappedGraphs(folder).runtime


def at_once(settings: Settings, workers: int) -> int:
    """How many bundles a worker opens at the same time. On a GPU one: no other may use it while a graph is captured."""
    if may_run_on_gpu(settings.provider):
        return 1
    return max(1, usable_cpus() // (1 if settings.pin_workers else workers))  # a pinned worker sees its own alone
