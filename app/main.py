"""The composition root: settings in, an application out. With composition.py, all that builds collaborators."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
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
from app.composition import at_once, build_decoding, build_shadow, model_factory, model_parts, part_of
from app.dialects.forms import form_of
from app.dialects.serving import Serving
from app.dialects.table import chosen
from app.engine.engine import Engine
from app.engine.session import ONNX_RUNTIME, Runtime
from app.errors import ServiceError
from app.http import problems
from app.http.api_keys import ApiKeys, KeySource
from app.http.browser_headers import PageHeaders, allow_origins
from app.http.dispatcher import Application
from app.http.in_flight import InFlight
from app.http.request_log import Access
from app.http.upload_budget import UploadBudget
from app.lifespan import Running, lifespan_of, state_words
from app.limits import body_limits, limits_body, shared_limits
from app.server import rpc_port
from app.server.gate import Gate
from app.server.tls import Certificate, certificate_of
from app.server.uvicorn_server import Service
from app.serving.bundles import log_passed_over
from app.serving.health import Health
from app.serving.loading import load_all
from app.serving.overruns import Overruns, OverrunWatch
from app.serving.registry import Models
from app.serving.reload import Reload
from app.settings import Settings
from app.system.allocator import malloc_trim_soon
from app.system.worker_context import WorkerContext
from app.telemetry import otel_variables
from app.telemetry.gpu import GpuMetrics
from app.telemetry.metrics import Metrics
from app.telemetry.nvml import Nvml

if TYPE_CHECKING:  # OpenTelemetry is imported where it is wanted, and after the fork
    from app.telemetry.otlp import Otlp

# FastAPI's own traces would be of a part of the requests a second time, and its logs have the words of exceptions.
_NOT_BY_FASTAPI: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

log = logging.getLogger("mixer.main")


@dataclass(frozen=True)
class _Keys:
    clients: ApiKeys
    operators: ApiKeys


def create_service(
    settings: Settings,
    engine: Engine | None = None,
    worker: WorkerContext | None = None,
    runtime: Runtime = ONNX_RUNTIME,
) -> Service:
    """The service of one process, alone or as one `worker` of several. Its lifespan starts what is not started here.

    Every engine is opened and warmed here, before any client is answered. One process listens after that; several
    workers share a port that listens already. `engine`: that of the bundle, if it is open.
    `runtime`: how graphs are opened.

    Raises: StartError.
    """
    keys, certificate = _build_keys(settings), certificate_of(settings)
    worker = worker or WorkerContext()
    traces = otel_variables.opened(os.environ, version("mixer-serve"), worker.number)
    running = _build_running(settings, worker, _reload_hooks(keys, certificate), traces, runtime)
    models, health, metrics = running.models, running.health, running.metrics
    factory = running.model_factory if engine is None else running.model_factory.instead_of_opening(engine)
    load_all(
        settings.bundle, models, factory,
        model_name=settings.model_name, default=settings.default_model,
        at_once=at_once(settings, running.worker.workers),
    )  # fmt: skip
    if running.shadow is not None:
        running.shadow.second.load(models)
    if running.worker.number == 0:
        log_passed_over(settings.bundle)
        labels = (label for model in models for label in model.classifier.spec.labels)
        log_unknown_classes(part_of(settings, CollectionOptions), labels)
    app, admin = _build_applications(settings, running, keys, certificate)
    # What the gate answers has no headers for other origins, and a browser would hide it.
    # What comes while the service drains is refused by the application, which counts it.
    in_flight = running.in_flight
    expect = None if settings.origins else lambda deadline: None if in_flight.is_draining else models.expect(deadline)
    gate = Gate(expect, metrics, settings.request_timeout_s, settings.root_path, app.pattern_of, running.tracing)
    state = partial(state_words, models, health, keys.clients, settings)
    return Service(app, admin, certificate, gate, metrics, running.stuck_s, state, lambda: health.reason)


def _build_keys(settings: Settings) -> _Keys:
    clients = KeySource("MIXER_API_KEYS", settings.api_keys.get_secret_value(), settings.api_keys_file)
    operators = KeySource("MIXER_ADMIN_KEYS", settings.admin_keys.get_secret_value(), settings.admin_keys_file, "admin")
    return _Keys(ApiKeys(clients), ApiKeys(operators))


def _reload_hooks(keys: _Keys, certificate: Certificate | None) -> dict[str, Callable[[], None]]:
    """What a reload reads anew beside the bundles, by the variables that name it."""
    hooks = {"MIXER_API_KEYS": keys.clients.read_again, "MIXER_ADMIN_KEYS": keys.operators.read_again}
    return hooks if certificate is None else hooks | {"MIXER_TLS_CERT_FILE": certificate.read_again}


def _build_running(
    settings: Settings,
    worker: WorkerContext,
    reload_hooks: Mapping[str, Callable[[], None]],
    traces: "Otlp | None",
    runtime: Runtime,
) -> Running:
    """The collaborators below HTTP. No model is loaded yet."""
    timeout_s = settings.request_timeout_s
    metrics = Metrics(worker.shared_memory, worker.number)
    for of, limit in shared_limits(settings).items():
        metrics.limit.labels(of).set(limit)
    decoding = build_decoding(settings, worker.quota("decode_bytes", settings.decode_memory_bytes))
    worker.decode_in(decoding.threads.native_ids())
    if worker.parent_pipe is not None:
        decoding.tell_threads(worker.decodes_in)
    models = Models(metrics, default=settings.default_model, patience_s=timeout_s + 1, on_gone=malloc_trim_soon)
    parts = model_parts(settings, metrics, decoding, worker, None if traces is None else traces.emit, runtime)
    shadow = None if settings.shadow is None else build_shadow(parts, settings.shadow, models)
    factory = model_factory(parts, shadow)
    metrics.drift.windows = models.windows
    in_flight = InFlight(lambda: metrics.rejected("draining", 1))
    health = Health(
        models, metrics,
        interval_s=settings.canary_interval_s, timeout_s=timeout_s, watchdog_s=settings.watchdog_s,
        worker=worker, is_draining=lambda: in_flight.is_draining,
    )  # fmt: skip
    reload = Reload(
        settings.bundle, models, factory, health, worker, metrics,
        model_name=settings.model_name, default=settings.default_model,
        timeout_s=timeout_s, reload_hooks=reload_hooks,
        beside=[] if shadow is None or shadow.second.apart is None else [shadow.second.apart],
    )  # fmt: skip
    overruns = OverrunWatch(Overruns(decoding, settings.decode_cpu_limit_s), health, metrics, worker)
    collection = open_collection(part_of(settings, CollectionOptions), metrics)
    gpu = GpuMetrics(lambda: Nvml(settings.device_id).sample)
    metrics.register(gpu)
    return Running(
        worker,
        metrics,
        decoding,
        factory,
        models,
        in_flight,
        health,
        reload,
        overruns,
        collection,
        gpu,
        shadow,
        traces,
    )


def _build_applications(
    settings: Settings, running: Running, keys: _Keys, certificate: Certificate | None
) -> tuple[Application, FastAPI | None]:
    """What the public port serves, and what one for operators does, where there is one."""
    limits = limits_body(settings, running.worker.workers)
    info = Info(running.models, running.health, keys.clients, limits, running.shadow)
    operators = Operators(running.metrics, keys.operators, settings.protect_metrics)
    admin = Admin(running.reload, running.in_flight, operators.expect_key)
    for_operators = (info.for_operators(), operators.router(), admin.router())
    if not settings.admin_port:
        return _build_public(settings, running, keys.clients, certificate, *for_operators), None
    application = FastAPI(
        title="mixer-serve for operators", openapi_url=None, redirect_slashes=False, telemetry=_NOT_BY_FASTAPI
    )
    for router in for_operators:
        application.include_router(router)
    _dress(application, running)
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
        running.models, running.health, metrics, version("mixer-serve"), settings.max_images_per_request, *routes,
        is_shared=settings.shadow_answers > 0,
    )  # fmt: skip
    rpc = rpc_port.opened(settings, running.worker, classification, serving, certificate)
    app = Application(
        form_of,
        title="mixer-serve",
        version=serving.version,
        **ABOUT,
        lifespan=lifespan_of(running, settings.drain_delay_s, settings.drain_timeout_s, rpc),
        openapi_url=None,  # api/documentation.py serves the document, and a page for it
        telemetry=_NOT_BY_FASTAPI,
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
    _dress(app, running)
    return app


def _build_classification(settings: Settings, running: Running, keys: ApiKeys) -> Classification:
    metrics = running.metrics
    room = running.worker.quota("upload_bytes", settings.upload_memory_bytes)
    budget = UploadBudget(room, lambda: metrics.rejected("uploads_full", 1))
    return Classification(
        running.models, running.in_flight, metrics, keys, body_limits(settings), budget, settings.request_timeout_s,
        running.collection, None if running.shadow is None else running.shadow.rollout, running.tracing,
    )  # fmt: skip


def _dress(app: FastAPI, running: Running) -> None:
    """What is around every endpoint: id, log line and metrics, safe headers, and errors as problems."""
    app.add_middleware(PageHeaders)
    app.add_middleware(Access, metrics=running.metrics, tracing=running.tracing)
    app.add_exception_handler(ServiceError, problems.from_service_error)
    app.add_exception_handler(HTTPException, problems.from_http_exception)
