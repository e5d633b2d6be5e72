"""uvicorn as one process or as several that share the port. Knows nothing of pictures."""

import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from prometheus_client import multiprocess
from uvicorn.supervisors import Multiprocess

from app.errors import StartError
from app.metrics import MULTIPROCESS_VARIABLE
from app.settings import Settings

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_GRACE_S = 2  # after the drain: time for the last answers to leave, and for threads to end

log = logging.getLogger("mixer.server")


class Workers(Multiprocess):
    """Worker processes; one that dies is replaced, and its gauges no longer count."""

    def keep_subprocess_alive(self) -> None:
        """Replace the dead."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            log.warning("worker %s was replaced", pid)
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def serve(application: FastAPI | Callable[[], FastAPI], settings: Settings) -> int:
    """Listen until told to stop. With several workers, `application` makes an application in each of them.

    Returns: the exit code of the process.
    Raises: StartError where the address cannot be listened on.
    """
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        factory=not isinstance(application, FastAPI),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=settings.keep_alive_timeout_s,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + _GRACE_S,
    )
    listener = _listen(settings.host, settings.port)
    log.info("starting on http://%s:%d", settings.host, settings.port)
    if settings.workers > 1:
        return _serve_with_workers(config, listener)
    for number in _STOPPING:  # uvicorn raises the signal again once it has ended: that is no failure
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _serve_with_workers(config: uvicorn.Config, listener: socket.socket) -> int:
    with tempfile.TemporaryDirectory(prefix="mixer-metrics-") as folder:
        os.environ[MULTIPROCESS_VARIABLE] = folder
        workers = Workers(config, sockets=[listener])
        workers.run()
    asked_to = {-number for number in _STOPPING}
    return max(0 if process.exitcode in asked_to else abs(process.exitcode or 0) for process in workers.processes)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"MIXER_HOST is {host} and MIXER_PORT {port}, which cannot be listened on: {error.strerror}."
        ) from error
    listener.set_inheritable(True)  # worker processes accept on it
    return listener
