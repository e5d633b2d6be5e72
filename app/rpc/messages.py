"""Messages of the protocol -> queries, and answers -> messages. Knows nothing of calls."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from app.dialects.dialect import Query
from app.errors import BadParameter, BadRequest
from app.inference.classifier import Classified
from app.rpc.open_inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from app.serving.registry import Model


def parsed(content: bytes) -> Any:
    """Raises BadRequest."""
    try:
        return ModelInferRequest.FromString(content)
    except DecodeError:
        raise BadRequest("The message is no ModelInferRequest.") from None


def query_of(message: Any) -> Query:
    """What it asks. Raises BadParameter."""
    if len(message.raw_input_contents) != 1:
        raise BadParameter(f"raw_input_contents has {len(message.raw_input_contents)} tensors; expected 1.")
    raw = message.raw_input_contents[0]
    return Query([raw[4:]], model=message.model_name or None, version=message.model_version or None, options=message)


def response_of(query: Query, model: Model, answers: Sequence[Classified]) -> bytes:
    """What is told of the answers."""
    raw = np.stack([one.scores.probabilities for one in answers]).astype("<f4")
    response: bytes = ModelInferResponse(
        model_name=model.name,
        model_version=model.classifier.spec.version,
        id=query.options.id,
        outputs=[ModelInferResponse.InferOutputTensor(name="probabilities", datatype="FP32", shape=raw.shape)],
        raw_output_contents=[raw.tobytes()],
    ).SerializeToString()
    return response


def in_stream(response: bytes) -> bytes:
    """The answer as a message of a stream."""
    wrapped = ModelStreamInferResponse()
    wrapped.infer_response.ParseFromString(response)
    content: bytes = wrapped.SerializeToString()
    return content
