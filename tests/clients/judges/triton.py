"""tritonclient in its four kinds, by the flavor that is named: http, http.aio, grpc, grpc.aio."""

import base64
import importlib
import inspect
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

_INPUT = "image"


@asynccontextmanager
async def _open(flavor: str, address: str):
    client = importlib.import_module(f"tritonclient.{flavor}").InferenceServerClient(address)
    try:
        yield client
    finally:
        await _settled(client.close())


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def ask(flavor: str, address: str, method: str, **arguments: Any) -> Any:
    """What a method without tensors answers: as JSON, whichever way it came."""
    if flavor.startswith("grpc") and method.startswith("get_"):
        arguments["as_json"] = True
    async with _open(flavor, address) as client:
        return await _settled(getattr(client, method)(**arguments))


async def pictures(flavor: str, address: str, sent: list[str], *, column: bool = False, **options: Any) -> Any:
    """Encoded pictures as BYTES of shape [N], or [N, 1]."""
    files = np.array([base64.b64decode(picture) for picture in sent], dtype=object)
    return await _infer(flavor, address, files.reshape(-1, 1) if column else files, "BYTES", **options)


async def texts(flavor: str, address: str, sent: list[str], **options: Any) -> Any:
    """Base64 as it stands, in the JSON of the request."""
    return await _infer(flavor, address, np.array(sent, dtype=object), "BYTES", binary_in=False, **options)


async def pixels(
    flavor: str, address: str, values: Any, datatype: str, *, binary_in: bool = True, **options: Any
) -> Any:
    """Numbers: [N, H, W, C] or [N, C, H, W]."""
    kinds = {"UINT8": np.uint8, "FP32": np.float32, "INT64": np.int64}
    return await _infer(
        flavor, address, np.asarray(values, dtype=kinds[datatype]), datatype, binary_in=binary_in, **options
    )


async def _infer(
    flavor: str,
    address: str,
    values: Any,
    datatype: str,
    *,
    model: str = "clothes",
    outputs: list[str] | None = None,
    classes: int = 0,
    binary_in: bool = True,
    binary_out: bool = True,
    shape: list[int] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The tensors that come back by their names, and the answer's `id`, `model_name` and `model_version`."""
    library = importlib.import_module(f"tritonclient.{flavor.partition('.')[0]}")
    tensor = library.InferInput(_INPUT, list(values.shape), datatype)
    over_http = flavor.startswith("http")
    tensor.set_data_from_numpy(values, **({"binary_data": binary_in} if over_http else {}))
    if shape is not None:
        tensor.set_shape(shape)
    asked = None
    if outputs is not None:
        how = {"binary_data": binary_out} if over_http else {}
        asked = [library.InferRequestedOutput(name, class_count=classes, **how) for name in outputs]
    async with _open(flavor, address) as client:
        result = await _settled(client.infer(model, [tensor], outputs=asked, **options))
    head = result.get_response() if over_http else result.get_response(as_json=True)
    return {
        **{name: head.get(name) for name in ("id", "model_name", "model_version")},
        **{one["name"]: _plain(result.as_numpy(one["name"])) for one in head["outputs"]},
    }


def _plain(values: Any) -> Any:
    return [[_text(one) for one in row] for row in values] if values.dtype == object else values.tolist()


def _text(label: str | bytes) -> str:
    """Labels come as texts where they came in JSON."""
    return label.decode() if isinstance(label, bytes) else label
