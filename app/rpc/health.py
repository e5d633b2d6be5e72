"""grpc.health.v1: whether the service, or one of its models, is served. Probes and load balancers ask this.

The services "" and inference.GRPCInferenceService stand for the whole, any other name for a model.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse

from app.rpc.open_inference_pb2 import DESCRIPTOR as INFERENCE
from app.serving.health import Health
from app.serving.registry import Models

_WHOLE = ("", INFERENCE.services_by_name["GRPCInferenceService"].full_name)
_LOOK_S = 0.25
_Status = HealthCheckResponse.ServingStatus


@dataclass(frozen=True)
class RpcHealth:
    """Answers from what the service's own health says at that moment."""

    health: Health
    models: Models

    def service(self) -> tuple[str, dict[str, grpc.RpcMethodHandler]]:
        """Its name and methods."""
        reads, writes = HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
        return DESCRIPTOR.services_by_name["Health"].full_name, {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, reads, writes),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, reads, writes),
        }

    def status(self, name: str) -> int:
        """One of SERVING, NOT_SERVING, and SERVICE_UNKNOWN where there is no such model."""
        if name in _WHOLE:
            return int(_Status.SERVING if self.health.is_ready() else _Status.NOT_SERVING)
        model = self.models.get(name)
        if model is None:
            return int(_Status.SERVICE_UNKNOWN)
        serves = model.failure is None and not self.health.is_ending()
        return int(_Status.SERVING if serves else _Status.NOT_SERVING)

    async def _check(self, request: Any, context: Any) -> Any:
        status = self.status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            names = ", ".join(model.name for model in self.models)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no such service; expected '' or one of {names}.")
        return HealthCheckResponse(status=status)

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Each change, until the client goes or the service ends."""
        told = None
        while True:
            status = self.status(request.service)
            if status != told:
                told = status
                yield HealthCheckResponse(status=status)
            if self.health.is_draining():
                return
            await asyncio.sleep(_LOOK_S)
