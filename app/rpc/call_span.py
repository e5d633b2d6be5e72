"""A call as a span, in the words of OpenTelemetry's conventions for RPC. Knows nothing of how spans are sent.

https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
"""

from grpc import StatusCode
from starlette.types import Scope

from app.http.request_span import CLIENT_GONE_STATUS, Described
from app.rpc.open_inference_pb2 import DESCRIPTOR
from app.rpc.statuses import code_of_status

_SERVICE = DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_FAILED = 500  # and above: what the service is to blame for


def described(scope: Scope, path: str, status: int, code: str | None) -> Described:
    """Of a call with this scope. `status`: what HTTP would say. `code`: of its problem, if it has one."""
    method = f"{_SERVICE}/{path}"
    told = StatusCode.CANCELLED if status == CLIENT_GONE_STATUS else code_of_status(status)
    host = scope["client"][0]
    failed = told not in (StatusCode.OK, StatusCode.INVALID_ARGUMENT)
    attributes = {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "rpc.response.status_code": told.name,
        "client.address": host or None,
        "error.type": told.name if failed else None,
    }
    return Described(method, attributes, code if status >= _FAILED else None)
