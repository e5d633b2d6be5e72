"""Errors of the service as gRPC tells them: a status, a message, and metadata for programs. Knows no method."""

from collections.abc import Iterator

from grpc import StatusCode

from app.errors import QueueFull, ServiceError

Metadata = tuple[tuple[str, str], ...]

_DETAIL_CHARACTERS = 1024  # of a message: it travels in a header, and clients may have chosen parts of it
_BY_STATUS = {
    200: StatusCode.OK,
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    413: StatusCode.INVALID_ARGUMENT,  # RESOURCE_EXHAUSTED would have clients try again what never fits
    415: StatusCode.INVALID_ARGUMENT,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    501: StatusCode.UNIMPLEMENTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}


def code_of(error: ServiceError) -> StatusCode:
    """The status that clients act on; INTERNAL for a fault of the service."""
    return code_of_status(error.status)


def code_of_status(status: int) -> StatusCode:
    """The same by the status that HTTP would have."""
    return _BY_STATUS.get(status, StatusCode.INTERNAL)


def message_of(error: ServiceError) -> str:
    """What people read."""
    return error.detail[:_DETAIL_CHARACTERS]


def metadata_of(error: ServiceError) -> Iterator[tuple[str, str]]:
    """The problem's code, and when to try again, for people and for clients that do so by themselves."""
    yield "mixer-code", error.code
    if isinstance(error, QueueFull):
        yield "retry-after", str(error.retry_after_s)
        yield "grpc-retry-pushback-ms", str(error.retry_after_s * 1000)
