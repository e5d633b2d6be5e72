"""inference.GRPCInferenceService: its methods over the collaborators of HTTP's endpoints. Knows nothing of servers."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from app.dialects.dialect import Asking, Query
from app.errors import BadRequest, ServiceError
from app.http.upload_budget import BodyReservation
from app.rpc import messages
from app.rpc.about import OPEN, About
from app.rpc.call import Call, Calls, method
from app.rpc.open_inference_pb2 import DESCRIPTOR
from app.rpc.statuses import code_of, message_of
from app.rpc.streams import Streams

_SERVICE = DESCRIPTOR.services_by_name["GRPCInferenceService"]
_INFER, _STREAM = method("ModelInfer"), method("ModelStreamInfer")


@dataclass(frozen=True)
class Inference:
    """The service. A message is received once its call has shown a key and, for pictures, has a permit."""

    asking: Asking
    calls: Calls
    about: About
    streams: Streams

    def service(self) -> tuple[str, dict[str, grpc.RpcMethodHandler]]:
        """Its name and methods. Those that take one message take it as a stream of one, to be read when it may."""
        methods = {
            name: grpc.stream_unary_rpc_method_handler(self._telling(name, tell))
            for name, tell in self.about.methods().items()
        }
        methods[_INFER.name] = grpc.stream_unary_rpc_method_handler(self._infer)
        methods[_STREAM.name] = grpc.stream_stream_rpc_method_handler(self._stream)
        return _SERVICE.full_name, methods

    # --- pictures ---

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
                yield messages.error_in_stream(message_of(outcome), call.asked_id)
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
            message = messages.parsed(content)
            call.asked_id = message.id
            return messages.asked_in(message)

        query, model, answers = await self.asking.answers(call, read)
        call.timing.answered = time.perf_counter()
        return messages.answered_as(query, model, answers)

    # --- what only tells ---

    def _telling(self, name: str, tell: Callable[[Any], dict[str, Any]]) -> Callable[..., Awaitable[bytes]]:
        asked, described = method(name), _SERVICE.methods_by_name[name]
        request, response = GetMessageClass(described.input_type), GetMessageClass(described.output_type)

        async def told(received: AsyncIterator[bytes], call: Call) -> bytes:
            if name not in OPEN:
                self.asking.classification.expect_key(call)
            content = await self.streams.only(received)
            try:
                message = request.FromString(content)
            except DecodeError:
                raise BadRequest(f"The message is no {described.input_type.name}.") from None
            answer: bytes = ParseDict(tell(message), response(), ignore_unknown_fields=True).SerializeToString()
            return answer

        async def answer(received: AsyncIterator[bytes], context: Any) -> bytes:
            return await self.calls.answer(Call(context, asked), partial(told, received))

        return answer


def _at_once(content: bytes) -> Callable[[], Awaitable[bytes]]:
    async def receive() -> bytes:
        return content

    return receive
