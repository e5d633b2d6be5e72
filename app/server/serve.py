"""uvicorn as one process or as several that share the port. Knows nothing of pictures."""

import faulthandler
import gc
import logging
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from app.errors import StartError
from app.http import forwarded
from app.server import rpc_port, tls
from app.server.connection import Connection
from app.server.supervisor import Supervisor
from app.server.uvicorn_server import GRACE_S, Server, Service, end_at_once
from app.settings import ENV_PREFIX, Settings
from app.system import address, allocator, signals
from app.system.cpu_limits import share_of_cpus
from app.system.worker_context import WorkerContext
from app.telemetry import logs

_MORE_CONNECTIONS = 32  # for operators, when all others are taken
_BACKLOG = 2048  # connections that the system keeps until they are taken; it forgets what is said on any beyond
_OTHER_OPEN_FILES = 128  # the bundle, libraries, pipes, metrics
_COLLECT_AFTER = 10_000  # objects: no request leaves any that only the collector finds

log = logging.getLogger("mixer.server")


def serve(make: Callable[[WorkerContext], Service], settings: Settings) -> int:
    """Listen until told to stop, in this process or in several: `make` makes a service in each of them.

    One process makes it before it listens. Several share a port that listens before they are forked; who connects
    meanwhile waits.

    Returns: the exit code of the process.
    Raises: StartError where the address cannot be listened on, or workers cannot be pinned, or what `make` raises.
    """
    if settings.pin_workers and not hasattr(os, "sched_setaffinity"):
        raise StartError(f"{ENV_PREFIX}PIN_WORKERS is true; expected false, as this system keeps no process to a CPU.")
    tls.certificate_of(settings)  # tried before any worker is there
    rpc_port.expect_installed(settings.grpc_port)
    _allow_open_files(settings.max_connections)  # one worker may get all of them
    if settings.workers == 1:
        worker = WorkerContext()
        logs.name_worker(worker.number, settings.workers)
        service = make(worker)
        with _listeners(settings) as listeners:
            return _run(service, listeners, settings, worker)
    with _listeners(settings) as listeners:
        supervisor = Supervisor(
            lambda worker: _work(make, listeners, settings, worker),
            settings.workers,
            grace_s=settings.drain_delay_s + settings.drain_timeout_s + 2 * GRACE_S,
            heartbeat_timeout_s=settings.watchdog_s,
            decode_limit_s=settings.decode_cpu_limit_s,
            on_stop=partial(_close, listeners),
        )
        return supervisor.run()


def _work(
    make: Callable[[WorkerContext], Service], listeners: list[socket.socket], settings: Settings, worker: WorkerContext
) -> int:
    """One worker of several, from its first line in the log to its end."""
    logs.name_worker(worker.number, settings.workers)
    if settings.pin_workers:  # before it has threads, which have their CPUs from it
        _pin(worker.number, settings.workers)
    return _run(make(worker), listeners, settings, worker)


def _pin(number: int, workers: int) -> None:
    share = share_of_cpus(number, workers, os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, share)
    except OSError as error:  # a sandbox forbids it
        raise StartError(
            f"{ENV_PREFIX}PIN_WORKERS is true, and worker {number} cannot be kept to the CPUs {sorted(share)}: "
            f"{error.strerror}; expected false here."
        ) from error


def _log_limits(settings: Settings) -> None:
    log.info(
        "limits of the whole service: %d images, %d connections, %d MiB of uploads, %d MiB of decoding; %d worker%s",
        settings.queue_capacity,
        settings.max_connections,
        settings.upload_memory_bytes >> 20,
        settings.decode_memory_bytes >> 20,
        settings.workers,
        "" if settings.workers == 1 else "s",
    )


def _log_ready(service: Service, settings: Settings, scheme: str) -> None:
    state, words = service.state()
    url = address.url(scheme, settings.host, settings.port)
    docs = address.url(scheme, address.near(settings.host), settings.port)
    log.info("%s on %s: %s; documentation: %s/docs", state, url, words, docs)


def _run(service: Service, listeners: list[socket.socket], settings: Settings, worker: WorkerContext) -> int:
    config = _config(service.app, settings, service.certificate)
    admin_config = (
        None if service.admin is None else _config(service.admin, settings, service.certificate, _MORE_CONNECTIONS)
    )
    scheme = "https" if config.is_ssl else "http"
    log.info("starting on %s", address.url(scheme, settings.host, settings.port))
    if worker.number == 0:
        _log_limits(settings)
    if admin_config is not None:
        log.info("operators are served on %s", address.url(scheme, settings.admin_host, settings.admin_port))
    gc.freeze()  # what is loaded by now stays: no collection need look at it again
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    allocator.give_large_blocks_back()
    # uvicorn raises the signal again once it has ended: no failure. The supervisor kills a worker that hangs after it.
    signals.exit_when_told(once=worker.parent_pipe is not None)
    try:
        on_ready = partial(_log_ready, service, settings, scheme)
        Server(service, config, admin_config, worker, on_ready, settings.watchdog_s).run(sockets=listeners)
    except SystemExit as ended:
        if stuck_s := service.longest_run_s():
            log.warning("a run has not ended in %.1f s; this process ends without it", stuck_s)
            end_at_once(ended.code if isinstance(ended.code, int) else 1)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
    return 0


def _config(
    application: ASGIApp, settings: Settings, certificate: tls.Certificate | None, more_connections: int = 0
) -> uvicorn.Config:
    return uvicorn.Config(
        forwarded.behind(os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"), application, settings.root_path),
        proxy_headers=False,  # that is done by then
        host=settings.host,
        port=settings.port,
        interface="asgi3",  # not every application is a coroutine function: it would be taken for an older kind
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections + more_connections + 1,  # the one that reaches it is refused
        timeout_keep_alive=settings.keep_alive_timeout_s,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + GRACE_S,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
    )


def _allow_open_files(connections: int) -> None:
    """Raise the limit of open files as far as the system lets, up to what the connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_OPEN_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("only %d files may be open, too few for MIXER_MAX_CONNECTIONS=%d", allowed, connections)


@contextmanager
def _listeners(settings: Settings) -> Iterator[list[socket.socket]]:
    """The public port, and that for operators where there is one."""
    with ExitStack() as opened:
        listeners = [opened.enter_context(_listen(settings.host, settings.port))]
        if settings.admin_port:
            admin = _listen(settings.admin_host, settings.admin_port, f"{ENV_PREFIX}ADMIN_")
            listeners.append(opened.enter_context(admin))
        if settings.grpc_port:  # tried: each worker opens it itself, and another service could have it, too
            _listen(settings.host, settings.grpc_port, f"{ENV_PREFIX}GRPC_", ENV_PREFIX).close()
        yield listeners


def _close(listeners: list[socket.socket]) -> None:
    """While one process has them open, the system takes connections that nobody will serve."""
    for listener in listeners:
        listener.close()


def _listen(host: str, port: int, prefix: str = ENV_PREFIX, host_prefix: str | None = None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Two processes may bind at once, but only one may listen, and uvloop would not say so.
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(
            f"{host_prefix or prefix}HOST is {host} and {prefix}PORT {port}, which cannot be listened on: "
            f"{error.strerror}."
        ) from error
    return listener
