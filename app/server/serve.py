"""uvicorn as one process or as several that share the port. Knows nothing of pictures."""

import asyncio
import faulthandler
import gc
import logging
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NoReturn, cast

import uvicorn
from starlette.types import ASGIApp

from app.errors import StartError
from app.http import forwarded
from app.server import tls
from app.server.acceptor import Acceptor
from app.server.connection import Connection
from app.server.flow_control import Crowd, Departures
from app.server.service import Service
from app.server.supervisor import STOPPING, Supervisor
from app.settings import ENV_PREFIX, Settings
from app.system import address, allocator
from app.system.worker_context import Post
from app.telemetry import logs

_PATIENCE_S, _LOOK_S = 5.0, 0.005  # for workers that start at the same time
_TICKS_TO_EVEN = 10  # while those that left come back, the shares are not known
_EVENED_S = 1.0  # what those ticks take
_LATE_S = 0.1  # for the request of a connection that was opened at the end
_GRACE_S = 2  # after the drain: time for the last answers to leave, and for threads to end
_MORE_CONNECTIONS = 32  # for operators, when all others are taken
_BACKLOG = 2048  # connections that the system keeps until they are taken; it forgets what is said on any beyond
_OTHER_OPEN_FILES = 128  # the bundle, libraries, pipes, metrics
_COLLECT_AFTER = 10_000  # objects: no request leaves any that only the collector finds

log = logging.getLogger("mixer.server")


def serve(make: Callable[[Post], Service], settings: Settings) -> int:
    """Listen until told to stop, in this process or in several: `make` makes a service in each of them.

    One process makes it before it listens. Several share a port that listens before they are forked; whoever connects
    meanwhile waits.

    Returns: the exit code of the process.
    Raises: StartError where the address cannot be listened on, or what `make` raises.
    """
    tls.certificate_of(settings)  # tried before any worker is there
    _allow_open_files(settings.max_connections)  # one worker may get all of them
    if settings.workers == 1:
        post = Post()
        logs.name_worker(post.number, settings.workers)
        service = make(post)
        with _listeners(settings) as listeners:
            return _run(service, listeners, settings, post)
    with _listeners(settings) as listeners:
        supervisor = Supervisor(
            lambda post: _work(make, listeners, settings, post),
            settings.workers,
            grace_s=settings.drain_timeout_s + 2 * _GRACE_S,
            pulse_s=settings.watchdog_s,
            decode_limit_s=settings.decode_cpu_limit_s,
            on_stop=partial(_close, listeners),
        )
        return supervisor.run()


def _work(make: Callable[[Post], Service], listeners: list[socket.socket], settings: Settings, post: Post) -> int:
    """One worker of several, from its first line in the log to its end."""
    logs.name_worker(post.number, settings.workers)
    return _run(make(post), listeners, settings, post)


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


class _Held(set[asyncio.Protocol]):
    """Open connections; how many they are is told after each change."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._tell = tell
        self.is_over = False

    def add(self, connection: asyncio.Protocol) -> None:
        super().add(connection)
        self._tell(len(self))
        if self.is_over:  # it was being opened at the end: uvicorn waits for it, and does not tell it to end
            asyncio.get_running_loop().call_later(_LATE_S, cast(Connection, connection).shutdown)

    def discard(self, connection: object) -> None:
        super().discard(connection)
        self._tell(len(self))


class _Server(uvicorn.Server):
    """uvicorn's, which takes only its share of the connections. `admin` is for those of the second socket.

    `on_ready` is called in one worker, when all of a new service have begun.
    """

    def __init__(
        self,
        service: Service,
        config: uvicorn.Config,
        admin: uvicorn.Config | None,
        post: Post,
        on_ready: Callable[[], object],
        still_s: float,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._still_s = still_s
        self._admin = admin
        self._post = post
        self._departures: Departures | None = None
        self._crowd = Crowd(post.held_by_all)
        self._held = _Held(post.hold)
        self._leaves = False
        self.server_state.connections = self._held  # type: ignore[assignment]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        self._departures = Departures()
        await super().startup(sockets=[])
        await self._wait_for_the_others()
        for listener, config in zip(sockets or [], (self.config, self._admin), strict=False):
            if config is not None:
                self._accept(listener, config)
        if self._post.number == 0 and self._post.is_anew() and not self.should_exit:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second. A worker that replaces another has no connections, as the others' clients keep theirs."""
        self._leave_or_listen()
        if self._post.is_retiring():
            self._crowd.too_many = sys.maxsize  # each client goes with its answer
        elif counter % _TICKS_TO_EVEN == 0:
            self._crowd.too_many = self._post.too_many()
        if counter % _TICKS_TO_EVEN == 0:
            self._end_if_still_for(self._still_s + _EVENED_S)
        return await super().on_tick(counter)

    def _end_if_still_for(self, seconds: float) -> None:
        """Unless this is called again before. A supervisor does that better, for whom there is one.

        What stands still may have the interpreter's lock; only faulthandler needs none.
        """
        if self._post.lifeline is None:
            faulthandler.dump_traceback_later(seconds, exit=True)

    def _leave_or_listen(self) -> None:
        """Whoever comes is left to others while this worker classifies nothing; where no other does, it hears why."""
        leaves = (self._post.is_retiring() or self._post.is_stalled()) and self._post.others_serve()
        if leaves != self._leaves:
            self._leaves = leaves
            for acceptor in cast(list[Acceptor], self.servers):
                (acceptor.leave_to_others if leaves else acceptor.listen)()

    async def _wait_for_the_others(self) -> None:
        """Clients that come as soon as anybody listens keep their connections: the first worker would get them all."""
        patience = round(_PATIENCE_S / _LOOK_S)
        while not self._post.all_have_begun() and patience and not self.should_exit:
            patience -= 1
            await asyncio.sleep(_LOOK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the last answers leave, then end the application."""
        self._held.is_over = True
        self._end_if_still_for(self._still_s + (self.config.timeout_graceful_shutdown or 0) + _GRACE_S)
        await super().shutdown(sockets)
        if self._departures is not None:
            self._departures.close()
        if self.force_exit:
            log.warning("told twice to stop: what was under way is given up")
            _end_at_once(0)

    def _accept(self, listener: socket.socket, config: uvicorn.Config) -> None:
        if not config.loaded:
            config.load()
        gate = self._service.gate if config is self.config else None  # it is in front of pictures

        def connection() -> asyncio.Protocol:
            make = config.http_protocol_class
            return make(  # type: ignore[call-arg]
                config=config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                departures=self._departures,
                crowd=self._crowd,
                gate=gate,
                metrics=self._service.metrics,
            )

        post, most = self._post, config.limit_concurrency or math.inf
        acceptor = Acceptor(
            listener,
            connection,
            self._open_connections,
            post.held_by_others,
            config.ssl,
            is_full=lambda: post.held_by_all() + post.opened_by_all() >= most,
            on_opening=post.opens,
        )
        self.servers.append(acceptor)  # type: ignore[arg-type]  # closed and waited for in the same way

    def _open_connections(self) -> int:
        return len(self.server_state.connections)


def _run(service: Service, listeners: list[socket.socket], settings: Settings, post: Post) -> int:
    config = _config(service.app, settings, service.certificate)
    admin_config = (
        None if service.admin is None else _config(service.admin, settings, service.certificate, _MORE_CONNECTIONS)
    )
    scheme = "https" if config.is_ssl else "http"
    log.info("starting on %s", address.url(scheme, settings.host, settings.port))
    if post.number == 0:
        _log_limits(settings)
    if admin_config is not None:
        log.info("operators are served on %s", address.url(scheme, settings.admin_host, settings.admin_port))
    gc.freeze()  # what is loaded by now stays: no collection need look at it again
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    allocator.give_large_blocks_back()
    for number in STOPPING:  # uvicorn raises the signal again once it has ended: that is no failure
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        on_ready = partial(_log_ready, service, settings, scheme)
        _Server(service, config, admin_config, post, on_ready, settings.watchdog_s).run(sockets=listeners)
    except SystemExit as ended:
        if stuck_s := service.longest_run_s():
            log.warning("a run has not ended in %.1f s; this process ends without it", stuck_s)
            _end_at_once(ended.code if isinstance(ended.code, int) else 1)
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
    return 0


def _end_at_once(code: int) -> NoReturn:
    """Without the interpreter's farewell: where a thread is inside a run, ONNX Runtime would abort the process then."""
    logging.shutdown()
    os._exit(code)


def _config(
    application: ASGIApp, settings: Settings, certificate: tls.Certificate | None, more_connections: int = 0
) -> uvicorn.Config:
    return uvicorn.Config(
        forwarded.behind(os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"), application, settings.root_path),
        proxy_headers=False,  # that is done by then
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections + more_connections + 1,  # the one that reaches it is refused
        timeout_keep_alive=settings.keep_alive_timeout_s,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + _GRACE_S,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
    )


def _allow_open_files(connections: int) -> None:
    """As many as the system lets this process have, up to what the connections need."""
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
        yield listeners


def _close(listeners: list[socket.socket]) -> None:
    """While one process has them open, the system takes connections that nobody will serve."""
    for listener in listeners:
        listener.close()


def _listen(host: str, port: int, prefix: str = ENV_PREFIX) -> socket.socket:
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
            f"{prefix}HOST is {host} and {prefix}PORT {port}, which cannot be listened on: {error.strerror}."
        ) from error
    return listener
