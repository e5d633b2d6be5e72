"""KServe's InferenceRESTClient, for versions 1 and 2 of its protocol, and InferenceGRPCClient."""

import base64
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


async def is_live(base_url: str, protocol: str) -> bool:
    return await InferenceRESTClient(RESTConfig(protocol=protocol)).is_server_live(base_url)


async def is_ready(base_url: str) -> bool:
    return await InferenceRESTClient(RESTConfig(protocol="v2")).is_server_ready(base_url)


async def is_model_ready(base_url: str, protocol: str, model: str) -> bool:
    return await InferenceRESTClient(RESTConfig(protocol=protocol)).is_model_ready(base_url, model)


async def predict(base_url: str, model: str, body: dict[str, Any]) -> Any:
    """Version 1: the answer as it is."""
    return await InferenceRESTClient(RESTConfig(protocol="v1")).infer(base_url, body, model_name=model)


async def explain(base_url: str, model: str, body: dict[str, Any]) -> Any:
    """Version 1: the answer as it is."""
    return await InferenceRESTClient(RESTConfig(protocol="v1")).explain(base_url, model, body)


async def infer(base_url: str, sent: list[str], *, binary: bool, model: str = "clothes", **asked: Any) -> Any:
    """Version 2 over HTTP: encoded pictures as BYTES, in the body or, as base64, in its JSON."""
    request = _request(model, sent, binary=binary, **asked)
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    return _told(await client.infer(base_url, request, model_name=model))


async def are_live_and_ready(address: str, model: str) -> list[bool]:
    async with InferenceGRPCClient(address) as client:
        return [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(model)]


async def infer_grpc(address: str, sent: list[str], *, raw: bool, model: str = "clothes", **asked: Any) -> Any:
    """Version 2 over gRPC: pictures in raw_input_contents, or in bytes_contents."""
    request = _request(model, sent, binary=raw, files=True, **asked)
    async with InferenceGRPCClient(address) as client:
        return _told(await client.infer(request))


async def pixels_grpc(address: str, values: Any) -> Any:
    """FP32 numbers in fp32_contents."""
    tensor = InferInput("image", list(np.shape(values)), "FP32")
    tensor.set_data_from_numpy(np.asarray(values, dtype=np.float32), binary_data=False)
    async with InferenceGRPCClient(address) as client:
        return _told(await client.infer(InferRequest("clothes", [tensor])))


def _request(
    model: str, sent: list[str], *, binary: bool, files: bool = False, request_id: str | None = None, classes: int = 0
) -> InferRequest:
    pictures = [base64.b64decode(picture) for picture in sent]
    if binary:
        tensor = InferInput("image", [len(sent)], "BYTES")
        tensor.set_data_from_numpy(np.array(pictures, dtype=object), binary_data=True)
    else:
        tensor = InferInput("image", [len(sent)], "BYTES", data=pictures if files else sent)
    outputs = [RequestedOutput("probabilities", {"classification": classes})] if classes else None
    return InferRequest(model, [tensor], request_id=request_id, request_outputs=outputs)


def _told(response: Any) -> dict[str, Any]:
    outputs = {}
    for one in response.outputs:
        values = one.as_numpy().tolist()
        outputs[one.name] = [
            [cell.decode() if isinstance(cell, bytes) else cell for cell in row] for row in values
        ]  # labels are texts
    return {"id": response.id, "model_name": response.model_name, **outputs}
