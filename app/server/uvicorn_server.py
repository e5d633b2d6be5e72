"""uvicorn's server, which takes its share of the connections, and what it serves. Knows nothing of pictures."""

import asyncio
import faulthandler
import logging
import math
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, cast

import uvicorn
from starlette.types import ASGIApp

from app.server.acceptor import Acceptor
from app.server.connection import Connection
from app.server.flow_control import ConnectionRebalancer, HangupWatcher
from app.server.gate import Gate
from app.server.tls import Certificate
from app.system.worker_context import WorkerContext
from app.telemetry.metrics import Metrics

_PATIENCE_S, _LOOK_S = 5.0, 0.005  # for workers that start at the same time
_TICKS_TO_EVEN = 10  # while those that left come back, the shares are not known
_EVENED_S = 1.0  # what those ticks take
_LATE_S = 0.1  # for the request of a connection that was opened at the end
GRACE_S = 2  # after the drain: time for the last answers to leave, and for threads to end

log = logging.getLogger("mixer.server")


@dataclass(frozen=True)
class Service:
    """The applications of one process, and what a server must know of them.

    `app` has the lifespan. `admin`: what a port of its own serves; `certificate`: what both ports show.

    `gate` is asked at the head of a request for `app`. `longest_run_s`: for how many seconds the longest run under way
    has run. `state`: "ready" or not, and what is served how. `unready`: why it is not; None where it is.
    """

    app: ASGIApp
    admin: ASGIApp | None
    certificate: Certificate | None
    gate: Gate
    metrics: Metrics
    longest_run_s: Callable[[], float]
    state: Callable[[], tuple[str, str]]
    unready: Callable[[], str | None]


class Held(set[asyncio.Protocol]):
    """Open connections; how many they are is told after each change."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._tell = tell
        self.is_over = False

    def add(self, connection: asyncio.Protocol) -> None:
        """A connection has been made."""
        super().add(connection)
        self._tell(len(self))
        if self.is_over:  # it was being opened at the end: uvicorn waits for it, and does not tell it to end
            asyncio.get_running_loop().call_later(_LATE_S, cast(Connection, connection).shutdown)

    def discard(self, connection: object) -> None:
        """A connection has been lost."""
        super().discard(connection)
        self._tell(len(self))


class Server(uvicorn.Server):
    """uvicorn's, which takes only its share of the connections. `admin` is for those of the second socket.

    `on_ready` is called in one worker, when all of a new service have begun.
    """

    def __init__(
        self,
        service: Service,
        config: uvicorn.Config,
        admin: uvicorn.Config | None,
        worker: WorkerContext,
        on_ready: Callable[[], object],
        still_s: float,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._still_s = still_s
        self._admin = admin
        self._worker = worker
        self._hangup_watcher: HangupWatcher | None = None
        self._rebalancer = ConnectionRebalancer(worker.held_by_all)
        self._held = Held(worker.hold)
        self._leaves = False
        self.server_state.connections = self._held  # type: ignore[assignment]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen."""
        self._hangup_watcher = HangupWatcher()
        await super().startup(sockets=[])
        await self._wait_for_the_others()
        for listener, config in zip(sockets or [], (self.config, self._admin), strict=False):
            if config is not None:
                self._accept(listener, config)
        if self._worker.number == 0 and self._worker.is_anew() and not self.should_exit:
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second. A worker that replaces another has no connections, as the others' clients keep theirs."""
        self._leave_or_listen()
        if self._worker.is_retiring():
            self._rebalancer.excess_connections = sys.maxsize  # each client goes with its answer
        elif counter % _TICKS_TO_EVEN == 0:
            self._rebalancer.excess_connections = self._worker.excess_connections()
        if counter % _TICKS_TO_EVEN == 0:
            self._end_if_still_for(self._still_s + _EVENED_S)
        return await super().on_tick(counter)

    def _end_if_still_for(self, seconds: float) -> None:
        """Unless this is called again before. A supervisor does that better, for whom there is one.

        What stands still may have the interpreter's lock; only faulthandler needs none.
        """
        if self._worker.parent_pipe is None:
            faulthandler.dump_traceback_later(seconds, exit=True)

    def _leave_or_listen(self) -> None:
        """Leave new connections to other workers while this one classifies nothing, if any other does."""
        leaves = (self._worker.is_retiring() or self._worker.is_stalled()) and self._worker.others_serve()
        if leaves != self._leaves:
            self._leaves = leaves
            for acceptor in cast(list[Acceptor], self.servers):
                (acceptor.leave_to_others if leaves else acceptor.listen)()

    async def _wait_for_the_others(self) -> None:
        """Clients that come as soon as anybody listens keep their connections: the first worker would get them all."""
        patience = round(_PATIENCE_S / _LOOK_S)
        while not self._worker.all_have_begun() and patience and not self.should_exit:
            patience -= 1
            await asyncio.sleep(_LOOK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the last answers leave, then end the application."""
        self._held.is_over = True
        self._end_if_still_for(self._still_s + (self.config.timeout_graceful_shutdown or 0) + GRACE_S)
        await super().shutdown(sockets)
        if self._hangup_watcher is not None:
            self._hangup_watcher.close()
        if self.force_exit:
            log.warning("told twice to stop: what was under way is given up")
            end_at_once(0)

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
                hangup_watcher=self._hangup_watcher,
                rebalancer=self._rebalancer,
                gate=gate,
                metrics=self._service.metrics,
            )

        worker, most = self._worker, config.limit_concurrency or math.inf
        acceptor = Acceptor(
            listener,
            connection,
            self._open_connections,
            worker.held_by_others,
            config.ssl,
            is_full=lambda: worker.held_by_all() + worker.opened_by_all() >= most,
            on_opening=worker.opens,
        )
        self.servers.append(acceptor)  # type: ignore[arg-type]  # closed and waited for in the same way

    def _open_connections(self) -> int:
        return len(self.server_state.connections)


def end_at_once(code: int) -> NoReturn:
    """Skip the interpreter's teardown: where a thread is inside a run, ONNX Runtime would abort the process then."""
    logging.shutdown()
    os._exit(code)
