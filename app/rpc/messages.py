"""ModelInferRequest -> query, and answers -> ModelInferResponse. Knows nothing of calls, nor what tensors mean."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError

from app.dialects.dialect import Query
from app.dialects.oip.infer import Wish, expect_output, labels_of, outputs_of, query_of
from app.dialects.oip.tensors import BYTES, Tensor
from app.dialects.reading import MOST_VALUES
from app.errors import BadParameter, BadRequest, TooManyBytes
from app.inference.classifier import Classified
from app.rpc.open_inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from app.rpc.wire import expect_little_structure
from app.serving.registry import Model

_CONTENTS = {BYTES: "bytes_contents", "UINT8": "uint_contents", "FP32": "fp32_contents"}


def parsed(content: bytes) -> ModelInferRequest:
    """Raises: BadRequest, TooManyBytes, before anything is made that is much larger than what came."""
    expect_little_structure(content)
    try:
        message: ModelInferRequest = ModelInferRequest.FromString(content)
    except DecodeError:
        raise BadRequest("The message is no ModelInferRequest.") from None
    return message


def asked_in(message: ModelInferRequest) -> Query:
    """What it asks. Raises: BadParameter, TooManyBytes."""
    wishes = [
        Wish(expect_output(output.name), labels_of(_values(output.parameters)), binary=True)
        for output in message.outputs
    ]
    query = query_of(_inputs(message), wishes, _values(message.parameters), message.id)
    return replace(query, top_k=1, model=message.model_name or None, version=message.model_version or None)


def answered_as(query: Query, model: Model, answers: Sequence[Classified]) -> bytes:
    """The outputs that were asked for, all of them as bytes: clients read no others. Raises as outputs_of does."""
    outputs = outputs_of(query.options, model.classifier, answers)
    response: bytes = ModelInferResponse(
        model_name=model.name,
        model_version=model.classifier.spec.version,
        id=query.options.id,
        outputs=[
            ModelInferResponse.InferOutputTensor(name=output.wish.name, datatype=output.datatype, shape=output.shape)
            for output in outputs
        ],
        raw_output_contents=[output.raw() for output in outputs],
    ).SerializeToString()
    return response


def in_stream(response: bytes) -> bytes:
    """An answer as a message of a stream."""
    wrapped = ModelStreamInferResponse()
    wrapped.infer_response.ParseFromString(response)
    content: bytes = wrapped.SerializeToString()
    return content


def error_in_stream(words: str, request_id: str) -> bytes:
    """An error as a message of a stream, with the id of its request."""
    failed = ModelStreamInferResponse(error_message=words, infer_response=ModelInferResponse(id=request_id))
    content: bytes = failed.SerializeToString()
    return content


def _inputs(message: ModelInferRequest) -> list[Tensor]:
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadParameter(f"raw_input_contents has {len(raw)} tensors; expected {len(message.inputs)}, one an input.")
    return [
        Tensor(one.name, one.datatype, list(one.shape), raw[at] if raw else _contents(one))
        for at, one in enumerate(message.inputs)
    ]


def _contents(tensor: ModelInferRequest.InferInputTensor) -> Sequence[Any]:
    """What stands in the field of its datatype; what stands in others is as if it were not there."""
    field = _CONTENTS.get(tensor.datatype)
    values = () if field is None else getattr(tensor.contents, field)
    if len(values) > MOST_VALUES:
        raise TooManyBytes(
            f"contents.{field} has {len(values)} values; expected at most {MOST_VALUES}: "
            "send tensors in raw_input_contents."
        )
    return list(values)


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters' values, whatever their type is."""
    return {
        name: getattr(value, choice)
        for name, value in parameters.items()
        if (choice := value.WhichOneof("parameter_choice")) is not None
    }
