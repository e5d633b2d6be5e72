"""The port for gRPC: whether it can be had, and what listens there. gRPC is imported after the fork, where wanted."""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from app.api.classification import Classification
from app.dialects.serving import Serving
from app.errors import BadSettings
from app.server.tls import Certificate
from app.settings import FORM_BYTES, Settings
from app.system.worker_context import WorkerContext

if TYPE_CHECKING:
    from app.rpc.server import RpcServer

_PACKAGES = ("grpc", "grpc_health", "grpc_reflection")


def expect_installed(port: int) -> None:
    """Raises BadSettings where gRPC is wanted and not there. Nothing is imported: no fork survives its threads."""
    if port and (missing := [package for package in _PACKAGES if find_spec(package) is None]):
        raise BadSettings(
            f"MIXER_GRPC_PORT is {port}, and {', '.join(missing)} cannot be imported; expected the extra grpc "
            "(scripts/install cpu,grpc or pip install 'mixer-serve[grpc]'), or 0."
        )


def opened(
    settings: Settings,
    worker: WorkerContext,
    classification: Classification,
    serving: Serving,
    certificate: Certificate | None,
) -> "RpcServer | None":
    """What listens on the port, once it is started; None where there is no such port. Raises BadSettings."""
    if not settings.grpc_port:
        return None
    expect_installed(settings.grpc_port)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's lines would stand among those of the log
    from app.rpc.server import Listening, rpc_server  # noqa: PLC0415

    listening = Listening(
        settings.host,
        settings.grpc_port,
        max_message_bytes=max(settings.max_image_bytes, settings.max_request_bytes) + FORM_BYTES,
        max_calls=settings.max_connections,
        request_timeout_s=settings.request_timeout_s,
        idle_timeout_s=settings.keep_alive_timeout_s,
        is_shared=worker.workers > 1,
        pem=None if certificate is None else certificate.pem,
    )
    return rpc_server(listening, classification, serving)
