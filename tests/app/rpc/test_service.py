"""Methods of inference.GRPCInferenceService, as a client sees them."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode

from tests.app.color_bundle import BLUE, GREEN, RED, image
from tests.app.rpc.conftest import Dial, asking

KEY = "a-key-of-sixteen-characters"


def best_of(answer: Any) -> list[int]:
    (output,), (raw,) = answer.outputs, answer.raw_output_contents
    return np.frombuffer(raw, "<f4").reshape(output.shape).argmax(axis=1).tolist()


async def test_several_pictures_are_answered_in_order(dial: Dial) -> None:
    async with dial() as rpc:
        answer = await rpc.stub.ModelInfer(asking(image(BLUE), image(RED), image(GREEN), id="a b"))
    assert best_of(answer) == [2, 0, 1]
    assert (answer.model_name, answer.model_version, answer.id) == ("colours0", "7", "a b")


# --- streams ---


async def test_each_message_of_a_stream_is_answered_in_order_and_an_error_is_that_of_its_message(dial: Dial) -> None:
    requests = [
        asking(image(BLUE), id="1"), asking(b"nothing", id="2"), asking(image(RED), model_name="other"),
        asking(image(GREEN), id="4"),
    ]  # fmt: skip
    async with dial() as rpc:
        answers = [answer async for answer in rpc.stub.ModelStreamInfer(iter(requests))]
        samples = rpc.service.metrics.samples()
    assert [answer.infer_response.id for answer in answers] == ["1", "", "", "4"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, False]
    assert best_of(answers[0].infer_response) == [2]
    assert "other" in answers[2].error_message
    assert samples['mixer_requests_total{endpoint="grpc ModelStreamInfer",status="200"}'] == 2
    assert samples['mixer_requests_total{endpoint="grpc ModelStreamInfer",status="404"}'] == 1


async def test_a_stream_without_a_key_ends(dial: Dial) -> None:
    async with dial(api_keys=KEY) as rpc:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            [answer async for answer in rpc.stub.ModelStreamInfer(iter([asking(image(RED))]))]
        assert error.value.code() is StatusCode.UNAUTHENTICATED
        stream = rpc.stub.ModelStreamInfer(iter([asking(image(RED))]), metadata=[("x-api-key", KEY)])
        assert len([answer async for answer in stream]) == 1


async def test_a_client_that_leaves_its_stream_is_forgotten(dial: Dial) -> None:
    async def messages() -> AsyncIterator[Any]:
        yield asking(image(RED))

    async with dial() as rpc:
        stream = rpc.stub.ModelStreamInfer(messages())
        assert best_of((await stream.read()).infer_response) == [0]
        stream.cancel()
        assert await rpc.stub.ModelInfer(asking(image(RED)))
