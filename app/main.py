"""The composition root: settings in, an application out. Nothing else builds collaborators."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from typing import TypeVar

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException

from app.api.classification import Classification
from app.api.classify import Routes
from app.api.documentation import Documentation
from app.api.explain import Explain
from app.api.feedback import Feedback
from app.api.front_page import FrontPage
from app.api.info import Info
from app.api.openapi import ABOUT
from app.api.operators import Admin, Operators
from app.api.streaming.endpoint import Stream
from app.collection.opening import CollectionOptions, log_unknown_classes, open_collection
from app.decoding.cost_checks import DecodeBudget
from app.decoding.decoder import DecodeLimits
from app.dialects.forms import form_of
from app.dialects.serving import Serving
from app.dialects.table import chosen
from app.engine.engine import Engine, EngineOptions
from app.engine.session import ONNX_RUNTIME
from app.engine.sessions import SharedSessions
from app.errors import ServiceError
from app.http import problems
from app.http.api_keys import ApiKeys, KeySource
from app.http.browser_headers import PageHeaders, allow_origins
from app.http.dispatcher import Application
from app.http.in_flight import InFlight
from app.http.request_log import Access
from app.http.upload_budget import UploadBudget
from app.inference.admission import Limits, most_in_background
from app.inference.classifier import Classifier, Decoding
from app.lifespan import Running, lifespan_of, state_words
from app.limits import body_limits, limits_body
from app.server import rpc_port
from app.server.gate import Gate
from app.server.tls import Certificate, certificate_of
from app.server.topology import may_run_on_gpu
from app.server.uvicorn_server import Service
from app.serving.bundles import Opened, is_one, log_passed_over, open_bundle, read_card_again
from app.serving.health import Health
from app.serving.loading import ModelFactory, load_all
from app.serving.overruns import Overruns, OverrunWatch
from app.serving.registry import Model, Models
from app.serving.reload import Reload
from app.settings import Settings
from app.system.allocator import malloc_trim_soon
from app.system.cpu_limits import usable_cpus
from app.system.quota import Quota
from app.system.worker_context import WorkerContext
from app.telemetry.drift import Window
from app.telemetry.metrics import Metrics
from app.telemetry.model_metrics import MetricsByModel, ModelMetrics

log = logging.getLogger("mixer.main")

Options = TypeVar("Options", EngineOptions, CollectionOptions)


@dataclass(frozen=True)
class _Keys:
    clients: ApiKeys
    operators: ApiKeys


def create_service(settings: Settings, engine: Engine | None = None, worker: WorkerContext | None = None) -> Service:
    """The service of one process, alone or as one `worker` of several. Its lifespan starts what is not started here.

    Every engine is opened and warmed here, before any client is answered. One process listens after that; several
    workers share a port that listens already. `engine`: that of the bundle, if it is open.

    Raises: StartError.
    """
    keys, certificate = _build_keys(settings), certificate_of(settings)
    running = _build_running(settings, worker or WorkerContext(), _reload_hooks(keys, certificate))
    models, health, metrics = running.models, running.health, running.metrics
    factory = running.model_factory if engine is None else running.model_factory.instead_of_opening(engine)
    load_all(
        settings.bundle, models, factory,
        default=settings.default_model, at_once=_at_once(settings, running.worker.workers),
    )  # fmt: skip
    if running.worker.number == 0:
        log_passed_over(settings.bundle)
        labels = (label for model in models for label in model.classifier.spec.labels)
        log_unknown_classes(_part_of(settings, CollectionOptions), labels)
    app, admin = _build_applications(settings, running, keys, certificate)
    # What the gate answers has no headers for other origins, and a browser would hide it.
    # What comes while the service drains is refused by the application, which counts it.
    in_flight = running.in_flight
    expect = None if settings.origins else lambda deadline: None if in_flight.is_draining else models.expect(deadline)
    gate = Gate(expect, metrics, settings.request_timeout_s, settings.root_path, app.pattern_of)
    state = partial(state_words, models, health, keys.clients, settings)
    return Service(app, admin, certificate, gate, metrics, models.stuck_s, state, lambda: health.reason)


def _build_keys(settings: Settings) -> _Keys:
    clients = KeySource("MIXER_API_KEYS", settings.api_keys.get_secret_value(), settings.api_keys_file)
    operators = KeySource("MIXER_ADMIN_KEYS", settings.admin_keys.get_secret_value(), settings.admin_keys_file, "admin")
    return _Keys(ApiKeys(clients), ApiKeys(operators))


def _reload_hooks(keys: _Keys, certificate: Certificate | None) -> dict[str, Callable[[], None]]:
    """What a reload reads anew beside the bundles, by the variables that name it."""
    hooks = {"MIXER_API_KEYS": keys.clients.read_again, "MIXER_ADMIN_KEYS": keys.operators.read_again}
    return hooks if certificate is None else hooks | {"MIXER_TLS_CERT_FILE": certificate.read_again}


def _build_running(
    settings: Settings, worker: WorkerContext, reload_hooks: Mapping[str, Callable[[], None]]
) -> Running:
    """The collaborators below HTTP. No model is loaded yet."""
    timeout_s = settings.request_timeout_s
    metrics = Metrics(worker.shared_memory, worker.number)
    decoding = build_decoding(settings, worker.quota("decode_bytes", settings.decode_memory_bytes))
    worker.decode_in(decoding.threads.native_ids())
    model_factory = _model_factory(settings, metrics, decoding, worker)
    models = Models(metrics, default=settings.default_model, patience_s=timeout_s + 1, on_gone=malloc_trim_soon)
    metrics.drift.windows = models.windows
    in_flight = InFlight(lambda: metrics.rejected("draining", 1))
    health = Health(
        models, metrics,
        interval_s=settings.canary_interval_s, timeout_s=timeout_s, watchdog_s=settings.watchdog_s,
        worker=worker, is_draining=lambda: in_flight.is_draining,
    )  # fmt: skip
    reload = Reload(
        settings.bundle, models, model_factory, health, worker, metrics,
        default=settings.default_model, timeout_s=timeout_s, reload_hooks=reload_hooks,
    )  # fmt: skip
    overruns = OverrunWatch(Overruns(decoding.threads, settings.decode_cpu_limit_s), health, metrics, worker)
    collection = open_collection(_part_of(settings, CollectionOptions), metrics)
    return Running(worker, metrics, decoding, model_factory, models, in_flight, health, reload, overruns, collection)


def _build_applications(
    settings: Settings, running: Running, keys: _Keys, certificate: Certificate | None
) -> tuple[Application, FastAPI | None]:
    """What the public port serves, and what one for operators does, where there is one."""
    info = Info(running.models, running.health, keys.clients, limits_body(settings, running.worker.workers))
    operators = Operators(running.metrics, keys.operators, settings.protect_metrics)
    admin = Admin(running.reload, running.in_flight, operators.expect_key)
    for_operators = (info.for_operators(), operators.router(), admin.router())
    if not settings.admin_port:
        return _build_public(settings, running, keys.clients, certificate, *for_operators), None
    application = FastAPI(title="mixer-serve for operators", openapi_url=None, redirect_slashes=False)
    for router in for_operators:
        application.include_router(router)
    _dress(application, running.metrics)
    return _build_public(settings, running, keys.clients, certificate, info.for_everyone()), application


def _build_public(
    settings: Settings,
    running: Running,
    keys: ApiKeys,
    certificate: Certificate | None,
    info: APIRouter,
    *operators: APIRouter,
) -> Application:
    metrics = running.metrics
    classification = _build_classification(settings, running, keys)
    routes = settings.health_route, settings.predict_route
    serving = Serving(
        running.models, running.health, metrics, version("mixer-serve"), settings.max_images_per_request, *routes
    )
    rpc = rpc_port.opened(settings, running.worker, classification, serving, certificate)
    app = Application(
        form_of,
        title="mixer-serve",
        version=serving.version,
        **ABOUT,
        lifespan=lifespan_of(running, settings.drain_timeout_s, rpc),
        openapi_url=None,  # api/documentation.py serves the document, and a page for it
        redirect_slashes=False,  # to an address made of the request's Host, which a client must not be sent to
    )
    Routes(classification).add_to(app)
    Explain(classification).add_to(app)
    Stream(classification).add_to(app)
    Feedback(classification).add_to(app)
    for dialect in chosen(settings.spoken, serving):
        dialect.add_to(app, classification)
    for router in (info, Documentation(app.openapi).router(), FrontPage(shown=settings.page).router(), *operators):
        app.include_router(router)
    if settings.origins:
        allow_origins(app, settings.origins)
    _dress(app, metrics)
    return app


def _build_classification(settings: Settings, running: Running, keys: ApiKeys) -> Classification:
    metrics = running.metrics
    room = running.worker.quota("upload_bytes", settings.upload_memory_bytes)
    budget = UploadBudget(room, lambda: metrics.rejected("uploads_full", 1))
    return Classification(
        running.models, running.in_flight, metrics, keys, body_limits(settings), budget, settings.request_timeout_s,
        running.collection,
    )  # fmt: skip


def _dress(app: FastAPI, metrics: Metrics) -> None:
    """What is around every endpoint: id, log line and metrics, safe headers, and errors as problems."""
    app.add_middleware(PageHeaders)
    app.add_middleware(Access, metrics=metrics)
    app.add_exception_handler(ServiceError, problems.from_service_error)
    app.add_exception_handler(HTTPException, problems.from_http_exception)


def engine_options(settings: Settings) -> EngineOptions:
    """The part of the settings that an engine needs, by the same names."""
    return _part_of(settings, EngineOptions)


def _part_of(settings: Settings, options: type[Options]) -> Options:
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
) -> Classifier:
    """A classifier over an open engine. `permits`, `background`: those that it has with others together."""
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


def _model_factory(settings: Settings, metrics: Metrics, decoding: Decoding, worker: WorkerContext) -> ModelFactory:
    permits = worker.quota("images", settings.queue_capacity)
    background = worker.quota("background", most_in_background(settings.queue_capacity))
    several = not is_one(settings.bundle)
    metrics_by_model = MetricsByModel(metrics, several=several)
    runtime = SharedSessions().runtime if several else ONNX_RUNTIME

    def build(name: str, opened: Opened) -> Model:
        classifier = build_classifier(
            settings, opened.engine, metrics_by_model.of(name), decoding, permits, background, worker.workers
        )
        return Model(name, opened.state, classifier, opened.sessions.lost_provider, card=opened.card)

    options = engine_options(settings)
    return ModelFactory(
        partial(open_bundle, options, runtime=runtime), build, partial(read_card_again, options.bundle_key)
    )


def _at_once(settings: Settings, workers: int) -> int:
    """How many bundles a worker opens at the same time. On a GPU one: no other may use it while a graph is captured."""
    return 1 if may_run_on_gpu(settings.provider) else max(1, usable_cpus() // workers)
