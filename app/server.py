"""uvicorn as one process or as several that share the port. Knows nothing of pictures."""

import ctypes
import functools
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI
from prometheus_client import multiprocess
from uvicorn.supervisors import Multiprocess

from app.connections import Connection
from app.errors import StartError
from app.metrics import MULTIPROCESS_VARIABLE
from app.settings import Settings

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_GRACE_S = 2  # after the drain: time for the last answers to leave, and for threads to end
_OTHER_OPEN_FILES = 128  # the bundle, libraries, pipes, metrics
_M_MMAP_THRESHOLD = -3  # of malloc.h
_LARGE_BLOCK_BYTES = 4 << 20

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
        application if isinstance(application, FastAPI) else functools.partial(_in_worker, application),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        factory=not isinstance(application, FastAPI),
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections + 1,  # uvicorn refuses the one that reaches it
        timeout_keep_alive=settings.keep_alive_timeout_s,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + _GRACE_S,
    )
    _allow_open_files(settings.max_connections)
    listener = _listen(settings.host, settings.port)
    log.info("starting on http://%s:%d", settings.host, settings.port)
    if settings.workers > 1:
        return _serve_with_workers(config, listener)
    _give_large_blocks_back()
    for number in _STOPPING:  # uvicorn raises the signal again once it has ended: that is no failure
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _serve_with_workers(config: uvicorn.Config, listener: socket.socket) -> int:
    with listener, _metrics_folder(config.workers) as folder:
        os.environ[MULTIPROCESS_VARIABLE] = folder
        workers = Workers(config, sockets=[listener])
        workers.run()
    asked_to = {-number for number in _STOPPING}
    return max(0 if process.exitcode in asked_to else abs(process.exitcode or 0) for process in workers.processes)


def _in_worker(make: Callable[[], FastAPI]) -> FastAPI:
    """An application in a worker process, which is told to stop when the process that watches over it has gone."""
    _give_large_blocks_back()
    supervisor = multiprocessing.parent_process()

    def follow() -> None:
        if supervisor is not None:
            supervisor.join()
            log.error("the supervising process has gone; this worker ends too")
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="supervisor", daemon=True).start()
    return make()


def _give_large_blocks_back() -> None:
    """Memory of large pictures goes back to the system at once; glibc's own rule keeps what the largest ones took."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def _metrics_folder(workers: int) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="mixer-metrics-")
    except OSError as error:
        raise StartError(
            f"MIXER_WORKERS is {workers}, and several workers share their metrics in a temporary folder, which cannot "
            f"be made: {error.strerror}. Expected TMPDIR to name a folder that can be written to, or 1 worker."
        ) from error


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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # two processes may bind at once, but only one may listen, and uvloop would not say so
    except OSError as error:
        listener.close()
        raise StartError(
            f"MIXER_HOST is {host} and MIXER_PORT {port}, which cannot be listened on: {error.strerror}."
        ) from error
    listener.set_inheritable(True)  # worker processes accept on it
    return listener
