"""gRPC's server on the event loop of one process: its port, limits, certificate, start and end."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from grpc_reflection.v1alpha import reflection

from app.api.classification import Classification
from app.dialects.dialect import Asking
from app.dialects.serving import Serving
from app.errors import StartError
from app.rpc.about import About
from app.rpc.call import Calls
from app.rpc.health import RpcHealth
from app.rpc.service import Inference
from app.rpc.streams import Streams
from app.system import address
from app.system.worker_context import WorkerContext

_CONNECTION_AGE_MS = 60_000  # then a client comes again, to any of the workers
_STREAMS_OF_CONNECTION = 256  # calls of one client at once; it keeps the others
_PING_MS, _PONG_MS, _PINGS_APART_MS = 60_000, 20_000, 10_000
_LOOK_S, _LEAVING_S = 0.25, 3.0  # for a worker that is about to end
_LAST_ANSWERS_S = 0.5  # after the drain, for what is refused at its end

Pem = tuple[bytes, bytes]  # a key, and its chain of certificates

log = logging.getLogger("mixer.rpc")


@dataclass(frozen=True)
class Listening:
    """Where, and how much. `pem`: asked in every handshake for the key and certificate of now; None: no TLS.

    `max_calls` at once in this process. `is_shared`: whether other workers listen on the port, too.
    """

    host: str
    port: int
    max_message_bytes: int
    max_calls: int
    request_timeout_s: float
    idle_timeout_s: float
    is_shared: bool
    pem: Callable[[], Pem] | None = None


class RpcServer:
    """Made after the fork and started in the event loop: gRPC has threads of its own, which no fork survives."""

    def __init__(
        self, listening: Listening, services: Sequence[tuple[str, dict[str, grpc.RpcMethodHandler]]], streams: Streams
    ) -> None:
        self._listening, self._services, self._streams = listening, services, streams
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises: StartError."""
        handlers = [grpc.method_handlers_generic_handler(name, methods) for name, methods in self._services]
        listening = self._listening
        server = grpc.aio.server(
            handlers=handlers, options=_options(listening), maximum_concurrent_rpcs=listening.max_calls
        )
        reflection.enable_server_reflection([name for name, _ in self._services] + [reflection.SERVICE_NAME], server)
        url = address.url("grpc", listening.host, listening.port)
        at = url.removeprefix("grpc://")
        try:
            if listening.pem is None:
                server.add_insecure_port(at)
            else:
                server.add_secure_port(at, _credentials(listening.pem))
        except RuntimeError as error:
            raise StartError(f"MIXER_GRPC_PORT is {listening.port}, which cannot be listened on.") from error
        await server.start()
        self._server = server
        log.info("gRPC is served on %s", at if listening.pem is None else f"{at}, with TLS")

    async def stop(self, timeout_s: float) -> None:
        """Take no more connections and calls; those under way have `timeout_s`, and streams end with their answer."""
        if self._server is not None:
            self._streams.end()
            await self._server.stop(timeout_s + _LAST_ANSWERS_S)
            await asyncio.sleep(0)  # calls that were cancelled are told so

    async def leave(self, worker: WorkerContext) -> None:
        """Stop once the worker is about to end and another serves: clients come again, to that one."""
        while not (worker.is_retiring() and worker.others_serve()):  # noqa: ASYNC110 -- they say so on shared memory
            await asyncio.sleep(_LOOK_S)
        await self.stop(_LEAVING_S)


def rpc_server(listening: Listening, classification: Classification, serving: Serving) -> RpcServer:
    """The server with all that it serves."""
    streams = Streams(classification.body_limits.timeout_s)
    calls = Calls(classification.in_flight, classification.metrics, classification.tracing)
    inference = Inference(Asking(classification), calls, About(serving), streams)
    health = RpcHealth(serving.health, serving.models)
    return RpcServer(listening, [inference.service(), health.service()], streams)


def _options(listening: Listening) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(listening.is_shared)),
        ("grpc.max_receive_message_length", listening.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _STREAMS_OF_CONNECTION),
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
        ("grpc.max_connection_age_grace_ms", round(listening.request_timeout_s * 1000)),
        ("grpc.max_connection_idle_ms", round(listening.idle_timeout_s * 1000)),
        ("grpc.keepalive_time_ms", _PING_MS),
        ("grpc.keepalive_timeout_ms", _PONG_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PINGS_APART_MS),
    ]


def _credentials(pem: Callable[[], Pem]) -> grpc.ServerCredentials:
    """Asked in every handshake, from a thread of gRPC's: one that has begun goes on with what it had."""

    def newest() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([pem()])

    return grpc.dynamic_ssl_server_credentials(newest(), newest)
