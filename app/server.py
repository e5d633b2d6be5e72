"""uvicorn, told to drain: the service turns not-ready the moment it is asked to stop. Knows nothing of pictures."""

import logging
import os
import socket
import tempfile
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from app.errors import StartError
from app.health import Health
from app.metrics import MULTIPROCESS_VARIABLE
from app.settings import Settings

_GRACE_S = 2  # after the drain: time for the last answers to leave, and for threads to end

log = logging.getLogger("mixer.server")


class Server(uvicorn.Server):
    """A uvicorn server that refuses new pictures from the first signal on, and finishes those it has."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or SIGINT: not ready any more, then uvicorn's own way of ending."""
        health = cast(Health | None, self.lifespan.state.get("health")) if hasattr(self, "lifespan") else None
        if health is not None:
            health.start_draining()
        super().handle_exit(sig, frame)


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
    server = Server(config)
    listener = _listen(settings.host, settings.port)
    log.info("listening on http://%s:%d", settings.host, settings.port)
    if settings.workers == 1:
        server.run(sockets=[listener])
        return 0 if server.started else StartError.exit_code
    with tempfile.TemporaryDirectory(prefix="mixer-metrics-") as folder:
        os.environ[MULTIPROCESS_VARIABLE] = folder
        Multiprocess(config, target=server.run, sockets=[listener]).run()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"MIXER_HOST and MIXER_PORT are {host} and {port}, where nobody can listen: {error.strerror}."
        ) from error
    listener.set_inheritable(True)
    return listener
