"""inference.GRPCInferenceService: each method over the collaborators of HTTP's endpoints. Knows nothing of servers."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from app.dialects.dialect import Asking, Query
from app.dialects.serving import Serving
from app.errors import ServiceError
from app.http.upload_budget import BodyReservation
from app.rpc import messages
from app.rpc.call import Call, Calls, method
from app.rpc.open_inference_pb2 import (
    DESCRIPTOR,
    ModelStreamInferResponse,
)
from app.rpc.statuses import code_of, message_of
from app.rpc.streams import Streams

_INFER, _STREAM = method("ModelInfer"), method("ModelStreamInfer")


@dataclass(frozen=True)
class Inference:
    """The service. A message is received once its call has shown a key and has a permit."""

    asking: Asking
    calls: Calls
    serving: Serving
    streams: Streams

    def service(self) -> tuple[str, dict[str, grpc.RpcMethodHandler]]:
        """Its name and methods. That which takes one message takes it as a stream of one, to be read when it may."""
        return DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name, {
            "ModelInfer": grpc.stream_unary_rpc_method_handler(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
        }

    async def _infer(self, received: AsyncIterator[bytes], context: Any) -> bytes:
        receive = partial(self.streams.only, received)
        return await self.calls.answer(Call(context, _INFER), partial(self._answer, receive), drains=True)

    async def _stream(self, received: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """An answer for each message, in order, or what is wrong with it; the stream goes on."""
        first = Call(context, _STREAM)
        while (content := await self._next(received, first)) is not None:
            call = Call(context, _STREAM, first.headers)
            outcome = await self.calls.outcome(call, partial(self._answer, _at_once(content)), drains=True)
            if isinstance(outcome, ServiceError):
                yield ModelStreamInferResponse(error_message=message_of(outcome)).SerializeToString()
            else:
                yield messages.in_stream(outcome)

    async def _next(self, received: AsyncIterator[bytes], call: Call) -> bytes | None:
        """The next message of a stream, whose client has a key; aborts the stream where it has none, or at the end."""
        try:
            self.asking.classification.expect_key(call)
            return await self.streams.next(received)
        except ServiceError as error:
            await call.context.abort(code_of(error), message_of(error), call.trailers(error))
            raise

    async def _answer(self, receive: Callable[[], Awaitable[bytes]], call: Call) -> bytes:
        async def read(reservation: BodyReservation) -> Query:
            content = await receive()
            reservation.add(len(content))
            return messages.query_of(messages.parsed(content))

        query, model, answers = await self.asking.answers(call, read)
        call.timing.answered = time.perf_counter()
        return messages.response_of(query, model, answers)


def _at_once(content: bytes) -> Callable[[], Awaitable[bytes]]:
    async def receive() -> bytes:
        return content

    return receive
