"""Methods of inference.GRPCInferenceService, as a client sees them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode

from app.rpc import open_inference_pb2 as pb
from tests.app.color_bundle import BLUE, GREEN, RED, color_spec, image, write_bundle
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


async def test_embeddings_are_those_of_the_first_model_where_a_second_one_answers_the_rest(
    dial: Dial, tmp_path: Path
) -> None:
    second = write_bundle(tmp_path / "second", color_spec(name="newer"))
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("probabilities", "embedding")]
    async with dial(shadow=second, shadow_answers=1) as rpc:
        while (await rpc.stub.ModelInfer(asking(image(RED)))).model_name != "second":
            pass  # until its canary has got its answer, it answers nobody
        for outputs, model in ((wanted[:1], "second"), (wanted, "colours0")):
            assert (await rpc.stub.ModelInfer(asking(image(RED), outputs=outputs))).model_name == model


# --- streams ---


async def test_each_message_of_a_stream_is_answered_in_order_and_an_error_is_that_of_its_message(dial: Dial) -> None:
    requests = [
        asking(image(BLUE), id="1"), asking(b"nothing", id="2"), asking(image(RED), model_name="other"),
        asking(image(GREEN), id="4"),
    ]  # fmt: skip
    async with dial() as rpc:
        answers = [answer async for answer in rpc.stub.ModelStreamInfer(iter(requests))]
        samples = rpc.service.metrics.samples()
    assert [answer.infer_response.id for answer in answers] == ["1", "2", "", "4"]
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


# --- what only tells ---


async def test_the_server_and_its_models_tell_of_themselves(dial: Dial) -> None:
    async with dial(max_images_per_request=16) as rpc:
        stub = rpc.stub
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
        assert (await stub.ModelReady(pb.ModelReadyRequest(name="colours0", version="7"))).ready
        server = await stub.ServerMetadata(pb.ServerMetadataRequest())
        assert (server.name, "statistics" in server.extensions) == ("mixer-serve", True)
        model = await stub.ModelMetadata(pb.ModelMetadataRequest(name="colours0"))
        assert (model.name, list(model.versions), model.platform) == ("colours0", ["7"], "onnxruntime_onnx")
        assert [(one.name, one.datatype, list(one.shape)) for one in model.inputs] == [("image", "BYTES", [-1, 1])]
        assert [(one.name, one.datatype, list(one.shape)) for one in model.outputs] == [
            ("probabilities", "FP32", [-1, 3])
        ]
        config = (await stub.ModelConfig(pb.ModelConfigRequest(name="colours0"))).config
        assert (config.max_batch_size, config.input[0].data_type) == (16, pb.TYPE_STRING)
        assert (config.WhichOneof("scheduling_choice"), config.response_cache.enable) == ("dynamic_batching", False)
        index = await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
        assert [(one.name, one.version, one.state) for one in index.models] == [("colours0", "7", "READY")]


async def test_statistics_have_what_was_answered_by_whatever_protocol(dial: Dial) -> None:
    async with dial() as rpc:
        for name in ("", "colours0"):
            (before,) = (await rpc.stub.ModelStatistics(pb.ModelStatisticsRequest(name=name))).model_stats
            await rpc.stub.ModelInfer(asking(image(RED), image(BLUE)))
            await rpc.service.http.post("/classify", content=image(RED))
            (after,) = (await rpc.stub.ModelStatistics(pb.ModelStatisticsRequest(name=name))).model_stats
            assert after.inference_count - before.inference_count == 3
            parts = after.inference_stats
            assert parts.success.count - before.inference_stats.success.count == 2  # requests
            spent = (parts.queue, parts.compute_input, parts.compute_infer, parts.compute_output)
            assert parts.success.ns >= sum(part.ns for part in spent) > 0


@pytest.mark.parametrize(
    "name", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ServerMetadata", "RepositoryIndex"]
)
async def test_what_tells_of_models_needs_a_key(name: str, dial: Dial) -> None:
    async with dial(api_keys=KEY) as rpc:
        tell, request = getattr(rpc.stub, name), getattr(pb, f"{name}Request")()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await tell(request)
        assert error.value.code() is StatusCode.UNAUTHENTICATED
        await tell(request, metadata=[("authorization", f"Bearer {KEY}")])
        assert (await rpc.stub.ServerReady(pb.ServerReadyRequest())).ready


@pytest.mark.parametrize("name", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
@pytest.mark.parametrize("asked", [{"name": "other"}, {"name": "colours0", "version": "8"}])
async def test_no_such_model_is_not_found(name: str, asked: dict[str, str], dial: Dial) -> None:
    async with dial() as rpc:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await getattr(rpc.stub, name)(getattr(pb, f"{name}Request")(**asked))
    assert error.value.code() is StatusCode.NOT_FOUND


async def test_no_such_model_is_not_ready(dial: Dial) -> None:
    async with dial() as rpc:
        assert not (await rpc.stub.ModelReady(pb.ModelReadyRequest(name="other"))).ready
        assert not (await rpc.stub.ModelReady(pb.ModelReadyRequest(name="colours0", version="8"))).ready


async def test_what_is_not_spoken_is_unimplemented(dial: Dial) -> None:
    async with dial() as rpc:
        load = rpc.channel.unary_unary("/inference.GRPCInferenceService/RepositoryModelLoad")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await load(b"")
    assert error.value.code() is StatusCode.UNIMPLEMENTED
