"""A call as the service sees it: keys, deadlines, hang-ups, permits, counts, log lines, trailers."""

import asyncio
import logging
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode

from app.inference.classifier import Classifier
from tests.app.color_bundle import BLUE, RED, color_spec, image
from tests.app.fakes import GatedSession, engine_of
from tests.app.rpc.conftest import Dial, asking

KEY = "a-key-of-sixteen-characters"
SPEC = color_spec(canary=None)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


def trailers_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    return dict(error.trailing_metadata())


async def test_an_answer_has_its_id_and_where_its_time_went(dial: Dial, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mixer.access"):
        async with dial() as rpc:
            call = rpc.stub.ModelInfer(asking(image(BLUE)), metadata=[("x-request-id", "mine")])
            answer = await call
            trailers = dict(await call.trailing_metadata())
            assert np.frombuffer(answer.raw_output_contents[0], "<f4").argmax() == 2
            assert trailers["x-request-id"] == "mine"
            stages = [part.partition(";")[0] for part in trailers["server-timing"].split(", ")]
            assert stages == ["receive", "decode", "queue", "infer", "batch", "total"]
            samples = rpc.service.metrics.samples()
    assert samples['mixer_requests_total{endpoint="grpc ModelInfer",status="200"}'] == 1
    assert samples['mixer_request_seconds_count{endpoint="grpc ModelInfer"}'] == 1
    assert samples['mixer_stage_seconds_count{stage="receive"}'] == 1
    (line,) = (record for record in caplog.records if record.name == "mixer.access")
    assert line.getMessage().startswith("gRPC ModelInfer 200 ")
    assert line.getMessage().endswith(" id=mine")
    assert line.client == "127.0.0.1"  # type: ignore[attr-defined]


@pytest.mark.parametrize("metadata", [[], [("authorization", "Bearer wrong")], [("x-api-key", "wrong")]])
async def test_without_a_key_nobody_enters_and_no_message_is_received(metadata: Any, dial: Dial) -> None:
    async with dial(api_keys=KEY) as rpc:
        never = rpc.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        error = await refused(never(metadata=metadata))  # whose message never comes
        assert error.code() is StatusCode.UNAUTHENTICATED
        assert trailers_of(error)["mixer-code"] == "bad_api_key"


@pytest.mark.parametrize("metadata", [[("authorization", f"Bearer {KEY}")], [("x-api-key", KEY)]])
async def test_a_key_opens_it_and_is_counted_by_its_name(metadata: Any, dial: Dial) -> None:
    async with dial(api_keys=f"shop:{KEY}") as rpc:
        await rpc.stub.ModelInfer(asking(image(RED)), metadata=metadata)
        assert rpc.service.metrics.samples()['mixer_key_requests_total{key="shop"}'] == 1


async def test_a_full_queue_is_told_with_when_to_come_again(dial: Dial) -> None:
    session = GatedSession(SPEC)
    async with dial(engine_of(session, SPEC), queue_capacity=1, max_images_per_request=1) as rpc:
        ahead = asyncio.ensure_future(rpc.service.http.post("/classify", content=image(RED)))
        await session.entered.wait()
        error = await refused(rpc.stub.ModelInfer(asking(image(RED))))
        session.open_gate()
        assert (await ahead).status_code == 200
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    trailers = trailers_of(error)
    assert trailers["mixer-code"] == "queue_full"
    assert int(trailers["grpc-retry-pushback-ms"]) == int(trailers["retry-after"]) * 1000 > 0


@pytest.mark.parametrize("how", ["grpc", "header", "service"])
async def test_a_deadline_reaches_the_queue(how: str, dial: Dial) -> None:
    session = GatedSession(SPEC)
    options = {"request_timeout_s": 0.2} if how == "service" else {}
    metadata = [("x-request-timeout-ms", "200")] if how == "header" else []
    async with dial(engine_of(session, SPEC), **options) as rpc:
        metrics = rpc.service.metrics
        ahead = asyncio.ensure_future(rpc.stub.ModelInfer(asking(image(RED))))
        await session.entered.wait()
        timeout = 0.2 if how == "grpc" else None
        error = await refused(rpc.stub.ModelInfer(asking(image(RED)), metadata=metadata, timeout=timeout))
        await metrics.until(
            lambda: ("queue", "deadline") in metrics.given_up or ("queue", "client_gone") in metrics.given_up
        )
        session.open_gate()
        await asyncio.gather(ahead, return_exceptions=True)
        samples = metrics.samples()
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert samples['mixer_requests_total{endpoint="grpc ModelInfer",status="504"}'] >= 1


async def test_a_call_that_is_cancelled_leaves_the_queue(dial: Dial) -> None:
    session = GatedSession(SPEC)
    async with dial(engine_of(session, SPEC)) as rpc:
        metrics = rpc.service.metrics
        ahead = asyncio.ensure_future(rpc.service.http.post("/classify", content=image(RED)))
        await session.entered.wait()
        call = rpc.stub.ModelInfer(asking(image(RED)))
        behind = asyncio.ensure_future(refused_or_cancelled(call))
        await metrics.until(lambda: metrics.waiting == 1)
        call.cancel()
        await metrics.until(lambda: metrics.waiting == 0)
        await behind
        session.open_gate()
        assert (await ahead).status_code == 200
        assert metrics.given_up == [("queue", "client_gone")]
        assert metrics.samples()['mixer_requests_total{endpoint="grpc ModelInfer",status="499"}'] == 1
    assert sum(len(batch) for batch in session.batches) == 1


async def refused_or_cancelled(call: Any) -> None:
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call


async def test_an_error_nobody_expected_is_told_without_its_words_and_logged(
    dial: Dial, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    async with dial() as rpc:
        monkeypatch.setattr(Classifier, "classify", broken)
        error = await refused(rpc.stub.ModelInfer(asking(image(RED)), metadata=[("x-request-id", "mine")]))
    assert error.code() is StatusCode.INTERNAL
    assert "secret" not in error.details()
    (record,) = (record for record in caplog.records if record.name == "mixer.rpc" and record.exc_info)
    assert record.request_id == "mine"  # type: ignore[attr-defined]


async def test_a_message_that_does_not_come_is_waited_for_as_long_as_a_body(dial: Dial) -> None:
    async with dial(body_timeout_s=0.2) as rpc:
        call = rpc.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")()
        error = await refused(call)
    assert error.code() is StatusCode.DEADLINE_EXCEEDED
    assert error.details() == "The message did not arrive within 0.2 s."


async def test_a_message_over_the_limit_is_refused_and_the_next_is_not(dial: Dial) -> None:
    async with dial(max_image_bytes=1000, max_request_bytes=2000) as rpc:
        error = await refused(rpc.stub.ModelInfer(asking(bytes(100_000))))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED  # gRPC's own answer
        error = await refused(rpc.stub.ModelInfer(asking(bytes(1001))))
        assert error.code() is StatusCode.INVALID_ARGUMENT
        assert trailers_of(error)["mixer-code"] == "too_many_bytes"
        assert await rpc.stub.ModelInfer(asking(image(RED)))


async def test_no_room_for_its_bytes_is_told(dial: Dial) -> None:
    session = GatedSession(SPEC)
    limits = {"max_image_bytes": 1000, "max_request_bytes": 1000, "upload_memory_bytes": 66_536}
    async with dial(engine_of(session, SPEC), **limits) as rpc:
        large = asking(image(RED), id="x" * 40_000)
        ahead = asyncio.ensure_future(rpc.stub.ModelInfer(large))
        await session.entered.wait()
        error = await refused(rpc.stub.ModelInfer(large))
        session.open_gate()
        await ahead
    assert error.code() is StatusCode.RESOURCE_EXHAUSTED
    assert trailers_of(error)["mixer-code"] == "uploads_full"


async def test_no_message_that_is_none_of_the_protocol(dial: Dial) -> None:
    async with dial() as rpc:
        raw = rpc.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        error = await refused(raw(b"\xff" * 20))
        assert (error.code(), error.details()) == (StatusCode.INVALID_ARGUMENT, "The message is no ModelInferRequest.")
        empty = rpc.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(iter(()))
        error = await refused(empty)
        assert error.details() == "The call has no message; expected one."
