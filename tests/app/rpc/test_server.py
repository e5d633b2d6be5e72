"""The port for gRPC: how it begins and ends, its certificate, its place among the workers."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from app.errors import BadSettings, StartError
from app.rpc.server import Listening, RpcServer
from app.rpc.streams import Streams
from app.server import rpc_port
from app.settings import Settings
from app.system.worker_context import WorkerContext
from tests.app.certificates import certificate
from tests.app.color_bundle import BLUE, RED, color_spec, image
from tests.app.fakes import GatedSession, engine_of
from tests.app.rpc.conftest import Dial, asking
from tests.app.rpc.stub import Stub
from tests.app.servers import PATIENCE_S, ROOT, STARTED, Server, clean_environment, free_port

SPEC = color_spec(canary=None)


def served(bundle: Path, port: int, *flags: str) -> Server:
    http = free_port()
    options = ("--port", str(http), "--grpc-port", str(port), "--bundle", str(bundle), *flags)
    return Server("-m", "cli", "serve", *options, port=http)


# --- before it begins ---


@pytest.mark.process
def test_gRPC_is_imported_by_nobody_before_its_service_is_made() -> None:  # noqa: N802
    script = (
        "import json, sys, app.main, app.server.serve, cli.main;"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in ('grpc', 'google')]))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env=clean_environment(), capture_output=True, check=True, timeout=PATIENCE_S, text=True,
    )  # fmt: skip
    assert json.loads(finished.stdout) == []


def test_without_the_extra_the_port_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_port, "find_spec", lambda package: None if package == "grpc_health" else True)
    rpc_port.expect_installed(0)
    with pytest.raises(BadSettings) as refused:
        rpc_port.expect_installed(9000)
    assert str(refused.value) == (
        "MIXER_GRPC_PORT is 9000, and grpc_health cannot be imported; expected the extra grpc "
        "(scripts/install cpu,grpc or pip install 'mixer-serve[grpc]'), or 0."
    )
    assert refused.value.exit_code == 2


def test_an_encrypted_key_is_refused_with_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="grpc_port is 9000, and gRPC opens no encrypted key; expected a plain one"):
        Settings(grpc_port=9000, tls_cert_file=tmp_path, tls_key_password="secret")


@pytest.mark.process
def test_a_port_that_is_taken_is_refused_in_one_line(bundle: Path) -> None:
    port = free_port()
    with served(bundle, port, "--workers", "2") as first:
        first.wait_until_serving(2)
        with served(bundle, port, "--workers", "2") as second:
            assert second.exit_code() == 1
            assert f"MIXER_GRPC_PORT {port}, which cannot be listened on" in second.lines[-1]


# --- its end ---


async def test_at_the_end_who_is_inside_is_answered_and_who_comes_is_refused(dial: Dial) -> None:
    session = GatedSession(SPEC)
    async with dial(engine_of(session, SPEC)) as rpc:
        inside = asyncio.ensure_future(rpc.stub.ModelInfer(asking(image(BLUE))))
        await session.entered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await _refused_from_now_on(rpc.stub)
        session.open_gate()
        assert (await inside).model_name == "colours0"


async def _refused_from_now_on(stub: Stub) -> None:
    """Until the signal has been heard. Who comes while the port closes may get no word, and gives up by itself."""
    while True:
        try:
            await stub.ModelInfer(asking(b""), timeout=1)
        except grpc.aio.AioRpcError as error:
            if error.code() in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
                return


async def test_who_is_not_answered_when_the_drain_ends_is_told_so(dial: Dial) -> None:
    session = GatedSession(SPEC)
    async with dial(engine_of(session, SPEC), drain_timeout_s=0.2) as rpc:
        inside = asyncio.ensure_future(rpc.stub.ModelInfer(asking(image(BLUE))))
        await session.entered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await inside
        session.open_gate()
    assert error.value.code() is StatusCode.UNAVAILABLE
    assert "shut down before an answer" in error.value.details()


async def test_an_idle_stream_ends_at_once(dial: Dial) -> None:
    async with dial(drain_timeout_s=60) as rpc:
        stream = rpc.stub.ModelStreamInfer()
        await stream.write(asking(image(RED)))
        assert (await stream.read()).infer_response.model_name == "colours0"
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream.read()
    assert error.value.code() is StatusCode.UNAVAILABLE
    assert "draining" in error.value.details()


class Retiring(WorkerContext):
    """Of several, one that is told when it is about to end."""

    is_about_to_end = False

    def is_retiring(self) -> bool:
        return self.is_about_to_end

    def others_serve(self) -> bool:
        return True


async def test_a_worker_that_is_about_to_end_listens_no_more() -> None:
    worker = Retiring()
    listening = Listening("127.0.0.1", free_port(), 1000, 10, 1.0, 1.0, is_shared=True)
    server = RpcServer(listening, [], Streams(1.0))
    await server.start()
    left = asyncio.ensure_future(server.leave(worker))
    _, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    writer.close()
    assert not left.done()
    worker.is_about_to_end = True
    await left
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", listening.port)


async def test_a_port_that_is_taken_meanwhile_stops_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = RpcServer(Listening("127.0.0.1", port, 1000, 10, 1.0, 1.0, is_shared=False), [], Streams(1.0))
        with pytest.raises(StartError, match=f"MIXER_GRPC_PORT is {port}, which cannot be listened on"):
            await server.start()


# --- certificates, reflection ---


@pytest.mark.process
@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command makes a certificate here")
async def test_it_shows_the_service_s_certificate_and_after_a_reload_the_new_one(dial: Dial, tmp_path: Path) -> None:
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(first.cert.read_bytes())
    key.write_bytes(first.key.read_bytes())
    async with dial(tls_cert_file=cert, tls_key_file=key) as rpc:
        await _answered_to(first.cert, rpc.port)
        cert.write_bytes(second.cert.read_bytes())
        key.write_bytes(second.key.read_bytes())
        os.kill(os.getpid(), signal.SIGHUP)
        while True:
            try:
                await _answered_to(second.cert, rpc.port)
            except grpc.aio.AioRpcError:
                continue
            break


async def _answered_to(trusted: Path, port: int) -> None:
    credentials = grpc.ssl_channel_credentials(trusted.read_bytes())  # noqa: ASYNC240 -- a small file
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        await Stub(channel).ModelInfer(asking(image(RED)), timeout=5)


async def test_reflection_tells_its_services(dial: Dial) -> None:
    async with dial() as rpc:
        stub = reflection_pb2_grpc.ServerReflectionStub(rpc.channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
        ]
        listed, file = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    assert [one.name for one in listed.list_services_response.service] == [
        "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", "inference.GRPCInferenceService",
    ]  # fmt: skip
    assert b"ModelInferRequest" in file.file_descriptor_response.file_descriptor_proto[0]


# --- workers ---


@pytest.mark.process
async def test_two_workers_share_the_port_and_the_death_of_one_is_seen_by_its_own_clients_alone(bundle: Path) -> None:
    port = free_port()
    with served(bundle, port, "--workers", "2", "--instances", "1") as running:
        running.wait_until_serving(2)
        pids = {int(pid) for pid in running.wait_for(STARTED, 2)}
        channels = [_channel(port) for _ in range(16)]
        try:
            await asyncio.gather(*map(_ask, channels))
            os.kill(min(pids), signal.SIGKILL)
            outcomes = await asyncio.gather(*map(_outcome, channels))
            assert set(outcomes) <= {"answered", StatusCode.UNAVAILABLE}
            assert "answered" in outcomes
            running.wait_for("and is replaced")
            await asyncio.gather(*(_ask(channel, wait_for_ready=True) for channel in channels))
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))
        running.wait_for(STARTED, 3)
        running.signal(signal.SIGTERM)
        assert running.exit_code() == 0
        log = "".join(running.lines)
        assert "Traceback" not in log


def _channel(port: int) -> Any:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])


async def _ask(channel: Any, **options: Any) -> Any:
    return await Stub(channel).ModelInfer(asking(image(RED)), timeout=PATIENCE_S, **options)


async def _outcome(channel: Any) -> Any:
    try:
        await _ask(channel)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return "answered"
