"""The whole service with its port for gRPC open, and a client of that."""

import signal
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from app.rpc.open_inference_pb2 import ModelInferRequest
from tests.app.in_process import Serve, Service
from tests.app.rpc.stub import Stub
from tests.app.servers import free_port


@dataclass(frozen=True)
class Rpc:
    """A client's stub and its channel; the service behind them, and its port."""

    stub: Stub
    channel: grpc.aio.Channel
    service: Service
    port: int


Dial = Callable[..., AbstractAsyncContextManager[Rpc]]


@pytest.fixture(autouse=True)
def only_the_service_hears_signals() -> Iterator[None]:
    """What measures coverage ends its process at SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def dial(serve: Serve) -> Dial:
    """`async with dial(queue_capacity=...) as rpc`: as `serve` does it."""

    @asynccontextmanager
    async def dialled(*engine: Any, **options: Any) -> AsyncIterator[Rpc]:
        port = free_port()
        async with (
            serve(*engine, grpc_port=port, **options) as service,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            yield Rpc(Stub(channel), channel, service, port)

    return dialled


def prefixed(*pictures: bytes) -> bytes:
    """The elements of a BYTES tensor, each behind its length."""
    return b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)


def asking(*pictures: bytes, **fields: Any) -> Any:
    """A request about pictures, with all else left open."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(pictures)]}
    return ModelInferRequest(**{"inputs": [tensor], "raw_input_contents": [prefixed(*pictures)], **fields})
