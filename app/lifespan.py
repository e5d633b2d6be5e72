"""What runs beside the requests of one process, from its start to the end of its drain. Builds no collaborators."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from fastapi import FastAPI

from app.collection.collection import Collection
from app.http.api_keys import ApiKeys
from app.http.in_flight import InFlight
from app.inference.undecoded import Decoding
from app.serving.health import DRAINING, Health
from app.serving.loading import ModelFactory
from app.serving.overruns import OverrunWatch
from app.serving.registry import Models
from app.serving.reload import Reload
from app.settings import Settings
from app.shadow.second import Second
from app.shadow.shadow import Shadow
from app.system import signals
from app.system.allocator import keep_trimmed
from app.system.worker_context import WorkerContext
from app.telemetry.gpu import GpuMetrics
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing

if TYPE_CHECKING:  # gRPC is imported where its port is wanted, and after the fork
    from app.rpc.server import RpcServer
    from app.telemetry.otlp import Otlp

_HEARTBEAT_S = 0.5
_TRIM_S = 10.0
_PUBLISHED_S = 2.0
_LAST_SPANS_S = 1.5  # for what has not been sent to the collector at the end

log = logging.getLogger("mixer.main")


@dataclass(frozen=True)
class Running:
    """What lives as long as its process."""

    worker: WorkerContext
    metrics: Metrics
    decoding: Decoding
    model_factory: ModelFactory
    models: Models
    in_flight: InFlight
    health: Health
    reload: Reload
    overruns: OverrunWatch
    collection: Collection | None
    gpu: GpuMetrics
    shadow: Shadow | None = None
    traces: "Otlp | None" = None

    def stuck_s(self) -> float:
        """For how many seconds the longest run of any model has run; 0 where none is."""
        return max(self.models.stuck_s(), 0.0 if self.shadow is None else self.shadow.second.stuck_s())

    @property
    def tracing(self) -> Tracing | None:
        """Which requests are traced; None where none is."""
        return None if self.traces is None else self.traces.tracing


def lifespan_of(
    running: Running, drain_delay_s: float, drain_timeout_s: float, rpc: "RpcServer | None" = None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Begins with the canaries; at its end, or at the first stop signal, requests under way are drained.

    `drain_delay_s`: how long the signal waits while clients are asked to go elsewhere. `rpc`: listens meanwhile.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models, health, reload, in_flight = running.models, running.health, running.reload, running.in_flight
        await health.probe()
        tasks = [asyncio.create_task(work) for work in _background(running)]
        _log_what_is_served(models)
        _watch_gpu(running)
        second = None if running.shadow is None else running.shadow.second
        if running.shadow is not None:
            works = running.shadow.works(health.interval_s, health.timeout_s)
            tasks += [asyncio.create_task(work) for work in works]
            running.shadow.log_what_it_does(models.asked(None))
        loop = asyncio.get_running_loop()
        endings: list[asyncio.Task[None]] = []

        def end() -> None:
            if not endings:
                in_flight.start_draining()
                health.review()
                endings.append(loop.create_task(_finish(models, in_flight, drain_timeout_s, second)))
                if rpc is not None:
                    endings.append(loop.create_task(rpc.stop(drain_timeout_s)))

        if rpc is not None:
            await rpc.start()
            tasks.append(asyncio.create_task(rpc.leave(running.worker)))
        try:
            # The server ends requests before it ends the lifespan, so the drain begins with the signal itself.
            # Several processes have a supervisor that gets SIGHUP for them.
            hearing = (
                nullcontext()
                if running.worker.parent_pipe is not None
                else signals.hearing_hang_ups(lambda: loop.call_soon_threadsafe(reload.ask))
            )
            leaving = signals.put_off(drain_delay_s, partial(_leave, running)) if drain_delay_s else nullcontext()
            with signals.first_telling(lambda: loop.call_soon_threadsafe(end)), leaving, hearing:
                yield
        finally:
            end()
            await asyncio.gather(*endings)
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await _close(running, second)

    return lifespan


def _leave(running: Running) -> None:
    """Serve on, and let each client go with its answer."""
    log.info("told to stop: clients are asked to go elsewhere before the drain")
    running.worker.retire()
    running.health.start_ending(DRAINING)


async def _close(running: Running, second: Second | None) -> None:
    for collaborator in (running.reload, running.models, second, running.decoding, running.collection, running.gpu):
        if collaborator is not None:
            collaborator.close()
    if running.traces is not None:
        await running.traces.close(_LAST_SPANS_S)


def _background(running: Running) -> Iterator[Coroutine[None, None, object]]:
    """What runs from the start to the end."""
    yield from (running.health.watch(), running.reload.watch(), running.overruns.watch())
    yield from (heartbeat(running.worker, running.metrics), keep_trimmed(_TRIM_S))
    yield _keep_published(running.metrics)


async def _keep_published(metrics: Metrics) -> None:
    """Let a scrape of another process know what this one has answered of late, and what it takes."""
    while True:
        metrics.drift.publish()
        metrics.of_workers.update()
        await asyncio.sleep(_PUBLISHED_S)


def _watch_gpu(running: Running) -> None:
    """Where a model runs on one. A shadow runs where the others do."""
    if any(model.classifier.engine.provider != "cpu" for model in running.models):
        running.gpu.start()


def _log_what_is_served(models: Models) -> None:
    for model in models:
        engine = model.classifier.engine
        log.info(
            "serving %s %s in %s on %s, %d instance%s (%s)",
            engine.spec.name, engine.spec.version, engine.precision, engine.provider, engine.instances,
            "" if engine.instances == 1 else "s", engine.precision_reason,
        )  # fmt: skip


def state_words(models: Models, health: Health, keys: ApiKeys, settings: Settings) -> tuple[str, str]:
    """Whether the service is ready, and what an operator looks for first."""
    named = (model.classifier.named for model in models)
    served = ", ".join(f"{one['name']} {one['version']} in {one['precision']}" for one in named)
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    key = "an API key is needed" if keys.locked else "no API key is needed"
    origins = f"CORS for {', '.join(settings.origins)}" if settings.origins else "no CORS"
    protocols = f"protocols {', '.join(settings.spoken)}" if settings.spoken else "no protocols of others"
    grpc = f"gRPC on port {settings.grpc_port}" if settings.grpc_port else "no gRPC"
    words = "; ".join([served, workers, key, origins, protocols, grpc])
    return "ready" if health.reason is None else "not ready yet", words


async def heartbeat(worker: WorkerContext, metrics: Metrics) -> None:
    """Show the supervisor that the event loop goes round, and how late; end when the supervisor has."""
    loop = asyncio.get_running_loop()
    lag = metrics.event_loop_lag.labels()
    if worker.parent_pipe is not None:
        loop.add_reader(worker.parent_pipe, _follow, worker)
    while True:
        worker.heartbeat()
        due = loop.time() + _HEARTBEAT_S
        await asyncio.sleep(_HEARTBEAT_S)
        lag.observe(max(0.0, loop.time() - due))


def _follow(worker: WorkerContext) -> None:
    log.error("the supervising process has gone; this worker ends too")
    asyncio.get_running_loop().remove_reader(cast(int, worker.parent_pipe))
    os.kill(os.getpid(), signal.SIGTERM)


async def _finish(models: Models, in_flight: InFlight, timeout_s: float, second: Second | None) -> None:
    """Serve the requests that have begun; after `timeout_s` the rest get 503."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    await in_flight.wait(timeout_s)
    left_s = max(0.0, until - loop.time())
    await asyncio.gather(*(one.drain(left_s) for one in (models, second) if one is not None))
