"""Every error of this package.

MixerError
├── BadInput               also a ValueError: no image that can be sent, or an impossible argument; nothing was sent
├── ConnectFailed          also a ConnectionError: nobody answers, or the connection ended before the answer did
├── BadAnswer              an answer that this service does not give
├── TimedOut               also a TimeoutError: no answer within the caller's time
│   └── DeadlinePassed     504, said by the service; a ServiceError, too
└── ServiceError           an error that the service answered: code, status, detail, request_id, retry_after_s
    ├── BadImage           400  the bytes are no readable image
    ├── BadRequest         400  the request is malformed
    ├── Unauthorized       401  no API key, or a wrong one
    ├── Forbidden          403  closed, as the service is configured
    ├── UnknownModel       404  no model of that name
    ├── UnknownRequest     404  no image is kept of a request with this id
    ├── NoEmbedding        404  the model gives no embeddings
    ├── TooManyBytes       413  the file is over the service's limit
    ├── TooManyPixels      413  the image is over the service's limit
    ├── UnsupportedFormat  415  a file format that the service does not take
    ├── BadParameter       422  top_k, threshold, coverage or another argument is impossible
    ├── QueueFull          429  no room, or no time to answer before the deadline
    │   └── UploadsFull    429  no room for its bytes
    ├── InferenceFailed    500  the engine failed on this image
    ├── NotReady           503  not ready, or about to end
    ├── OutOfMemory        503  no memory for this image now
    └── TooManyConnections 503  no room for one more connection
"""

from collections.abc import Iterator


class MixerError(Exception):
    """Whatever this package raises on purpose."""


class BadInput(MixerError, ValueError):
    """What was given cannot be sent."""


class ConnectFailed(MixerError, ConnectionError):
    """Nobody answers at the address, or the connection ended before the answer did."""


class BadAnswer(MixerError):
    """The answer is none of this service."""


class TimedOut(MixerError, TimeoutError):
    """No answer within the caller's time."""


class ServiceError(MixerError):
    """An error that the service answered.

    code: stable, for programs; `http_error` where somebody between answered, who has no codes. status: of HTTP.
    detail: for people. request_id: as in the service's log; "" where the answer has none. retry_after_s: when to come
    again, where the service says so.
    """

    codes: tuple[str, ...] = ()

    def __init__(
        self, code: str, status: int, detail: str, request_id: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(code, status, detail, request_id, retry_after_s)  # as they stand, so that it can be pickled
        self.code = code
        self.status = status
        self.detail = detail
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"


class BadImage(ServiceError):
    """The bytes are no readable image."""

    codes = ("bad_picture",)


class BadRequest(ServiceError):
    """The request is malformed."""

    codes = ("bad_request",)


class Unauthorized(ServiceError):
    """No API key, or a wrong one."""

    codes = ("bad_api_key", "invalid_api_key")


class Forbidden(ServiceError):
    """Closed, as the service is configured."""

    codes = ("forbidden",)


class UnknownModel(ServiceError):
    """No model of that name."""

    codes = ("unknown_model", "model_not_found")


class UnknownRequest(ServiceError):
    """No image is kept of a request with this id."""

    codes = ("unknown_request",)


class NoEmbedding(ServiceError):
    """The model gives no embeddings."""

    codes = ("no_embedding",)


class TooManyBytes(ServiceError):
    """The file is over the service's limit."""

    codes = ("too_many_bytes",)


class TooManyPixels(ServiceError):
    """The image is over the service's limit."""

    codes = ("too_many_pixels",)


class UnsupportedFormat(ServiceError):
    """A file format that the service does not take."""

    codes = ("unsupported_format",)


class BadParameter(ServiceError):
    """An argument is impossible for this model."""

    codes = ("bad_parameter",)


class QueueFull(ServiceError):
    """No room, or no time to answer before the deadline."""

    codes = ("queue_full",)


class UploadsFull(QueueFull):
    """No room for the bytes of another request."""

    codes = ("uploads_full",)


class InferenceFailed(ServiceError):
    """The engine failed on this image."""

    codes = ("inference_failed",)


class NotReady(ServiceError):
    """Not ready, or about to end."""

    codes = ("not_ready",)


class OutOfMemory(ServiceError):
    """No memory for this image now."""

    codes = ("out_of_memory",)


class TooManyConnections(ServiceError):
    """No room for one more connection."""

    codes = ("too_many_connections",)


class DeadlinePassed(ServiceError, TimedOut):
    """The service had no answer in time."""

    codes = ("deadline_passed",)


def class_of(code: str) -> type[ServiceError]:
    """The class of the errors with this code; ServiceError itself for one that has none of its own."""
    return next((known for known in _below(ServiceError) if code in known.codes), ServiceError)


def _below(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)
