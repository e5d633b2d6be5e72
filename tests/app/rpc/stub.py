"""A client's methods for gRPC, made of what the .proto says. Knows none of them by name."""

from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from app.rpc.open_inference_pb2 import DESCRIPTOR

_SERVICE = DESCRIPTOR.services_by_name["GRPCInferenceService"]


class Stub:
    """Has a callable for each method of the service, over a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        for method in _SERVICE.methods:
            call = channel.stream_stream if method.client_streaming else channel.unary_unary
            setattr(
                self,
                method.name,
                call(
                    f"/{_SERVICE.full_name}/{method.name}",
                    request_serializer=GetMessageClass(method.input_type).SerializeToString,
                    response_deserializer=GetMessageClass(method.output_type).FromString,
                ),
            )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{_SERVICE.full_name} has no method {name}.")
