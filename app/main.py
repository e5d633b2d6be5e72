"""The composition root: settings in, an application out. Nothing else builds collaborators."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import version
from typing import cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app import problems, signals
from app.access import Access
from app.batcher import Limits
from app.bodies import BodyLimits
from app.classifier import Classifier
from app.costs import Memory
from app.cpus import usable_cpus
from app.direct import Application
from app.drain import Drain
from app.engine import Engine, EngineOptions, open_engine
from app.errors import ServiceError
from app.health import Health
from app.images import FORMATS, DecodeLimits
from app.keys import read_keys
from app.metrics import Metrics
from app.routes import Routes
from app.schemas import LimitsBody
from app.settings import Settings
from app.workers import Post

_PULSE_S = 0.5

log = logging.getLogger("mixer.main")


def create_app(settings: Settings, engine: Engine | None = None, post: Post | None = None) -> Application:
    """The whole service, or what one worker at its post does of it. lifespan starts what is not started here.

    The engine is opened and warmed before any client can connect.

    Raises: StartError.
    """
    keys = read_keys(settings.api_keys.get_secret_value(), settings.api_keys_file)
    engine = engine or open_engine(engine_options(settings))
    post = post or Post()
    metrics = Metrics(post.board, post.number)
    metrics.engine_info.labels(engine.provider, engine.precision, engine.spec.name, engine.spec.version).set(1)
    classifier = build_classifier(settings, engine, metrics)
    health = Health(
        classifier,
        interval_s=settings.canary_interval_s,
        timeout_s=settings.request_timeout_s,
        watchdog_s=settings.watchdog_s,
        post=post,
    )
    drain = Drain(lambda: metrics.rejected("draining", 1))
    limits = _limits_body(settings, engine)
    routes = Routes(classifier, health, drain, metrics, keys, limits, _body_limits(settings))
    app = Application(
        title="mixer-serve",
        version=version("mixer-serve"),
        summary="Image classification with an MLP-Mixer on ONNX Runtime.",
        lifespan=_lifespan(classifier, health, drain, settings.drain_timeout_s, post),
    )
    routes.add_to(app)
    app.add_middleware(Access, metrics=metrics)
    app.add_exception_handler(ServiceError, problems.from_service_error)
    app.add_exception_handler(RequestValidationError, problems.from_validation_error)
    app.add_exception_handler(HTTPException, problems.from_http_exception)
    return app


def engine_options(settings: Settings) -> EngineOptions:
    """The part of the settings that an engine needs."""
    return EngineOptions(
        bundle=settings.bundle,
        provider=settings.provider,
        precision=settings.precision,
        lanes=settings.lanes,
        intra_op_threads=settings.intra_op_threads,
        max_batch_size=settings.max_batch_size,
        device_id=settings.device_id,
        gpu_memory_bytes=settings.gpu_memory_bytes,
        tensorrt_cache=settings.tensorrt_cache,
    )


def build_classifier(settings: Settings, engine: Engine, metrics: Metrics) -> Classifier:
    """A classifier over an open engine."""
    return Classifier(
        engine,
        limits=Limits(
            lanes=engine.lanes,
            max_batch_size=settings.max_batch_size or engine.max_batch_size,
            max_wait_s=settings.max_wait_ms / 1000,
            queue_capacity=settings.queue_capacity,
        ),
        decode_limits=DecodeLimits(
            settings.max_picture_bytes, settings.max_picture_pixels, Memory(settings.decode_memory_bytes)
        ),
        decode_threads=settings.decode_threads or usable_cpus(),
        metrics=metrics,
    )


def _lifespan(
    classifier: Classifier, health: Health, drain: Drain, drain_timeout_s: float, post: Post
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await health.probe()
        watching = asyncio.create_task(health.watch())
        beating = asyncio.create_task(_beat(post))
        engine = classifier.engine
        log.info(
            "serving %s %s in %s on %s, %d lanes",
            engine.spec.name, engine.spec.version, engine.precision, engine.provider, engine.lanes,
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        endings: list[asyncio.Task[None]] = []

        def end() -> None:
            if not endings:
                health.start_draining()
                drain.start()
                endings.append(loop.create_task(_finish(classifier, drain, drain_timeout_s)))

        try:
            # The server ends requests before it ends the lifespan, so the drain begins with the signal itself.
            with signals.first_telling(lambda: loop.call_soon_threadsafe(end)):
                yield
        finally:
            end()
            await asyncio.gather(*endings)
            for task in (watching, beating):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            classifier.close()

    return lifespan


async def _beat(post: Post) -> None:
    """Show the supervisor that the event loop goes round, and end when the supervisor has."""
    loop = asyncio.get_running_loop()
    if post.lifeline is not None:
        loop.add_reader(post.lifeline, _follow, post)
    while True:
        post.beat()
        await asyncio.sleep(_PULSE_S)


def _follow(post: Post) -> None:
    log.error("the supervising process has gone; this worker ends too")
    asyncio.get_running_loop().remove_reader(cast(int, post.lifeline))
    os.kill(os.getpid(), signal.SIGTERM)


async def _finish(classifier: Classifier, drain: Drain, timeout_s: float) -> None:
    """Serve the requests that have begun; after `timeout_s` the rest get 503."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    await drain.wait(timeout_s)
    await classifier.batcher.close(max(0.0, until - loop.time()))


def _limits_body(settings: Settings, engine: Engine) -> LimitsBody:
    return LimitsBody(
        max_picture_bytes=settings.max_picture_bytes,
        max_picture_pixels=settings.max_picture_pixels,
        max_pictures_per_request=settings.max_pictures_per_request,
        max_request_bytes=settings.max_request_bytes,
        request_timeout_s=settings.request_timeout_s,
        max_batch_size=settings.max_batch_size or engine.max_batch_size,
        queue_capacity=settings.queue_capacity,
        formats=list(FORMATS),
    )


def _body_limits(settings: Settings) -> BodyLimits:
    return BodyLimits(
        max_picture_bytes=settings.max_picture_bytes,
        max_request_bytes=settings.max_request_bytes,
        max_pictures=settings.max_pictures_per_request,
        timeout_s=settings.body_timeout_s,
    )
