"""grpc.health.v1 over the service's own health."""

import os
import signal

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from app.system import signals
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.rpc.conftest import Dial

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("name", ["", "inference.GRPCInferenceService", "colours0"])
async def test_what_is_served_is_serving_and_needs_no_key(name: str, dial: Dial) -> None:
    async with dial(api_keys="a-key-of-sixteen-characters") as rpc:
        assert (await HealthStub(rpc.channel).Check(HealthCheckRequest(service=name))).status == SERVING


@pytest.mark.parametrize("name", ["", "colours0"])
async def test_a_model_that_answers_wrongly_is_not(name: str, dial: Dial) -> None:
    spec = color_spec()
    drifting = FakeSession(spec, lambda patches: means_of_colors(patches) + np.float32(1))
    async with dial(engine_of(drifting, spec)) as rpc:
        assert (await HealthStub(rpc.channel).Check(HealthCheckRequest(service=name))).status == NOT_SERVING


async def test_what_is_not_there_is_not_found(dial: Dial) -> None:
    async with dial() as rpc:
        stub = HealthStub(rpc.channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Check(HealthCheckRequest(service="other"))
        assert error.value.code() is StatusCode.NOT_FOUND
        watch = stub.Watch(HealthCheckRequest(service="other"))
        assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_who_watches_hears_of_the_end(dial: Dial) -> None:
    async with dial() as rpc:
        watch = HealthStub(rpc.channel).Watch(HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF


async def test_before_a_delayed_drain_no_model_is_serving_and_calls_are_answered(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_SAME_S", 0)
    async with dial(drain_delay_s=600) as rpc:
        stub = HealthStub(rpc.channel)
        watch = stub.Watch(HealthCheckRequest(service="colours0"))
        assert (await watch.read()).status == SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        assert (await stub.Check(HealthCheckRequest())).status == NOT_SERVING
        os.kill(os.getpid(), signal.SIGTERM)  # a second one does not wait
        assert await watch.read() is grpc.aio.EOF
