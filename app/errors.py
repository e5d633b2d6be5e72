"""Every error the service raises on purpose.

Exception
├── ServiceError            becomes an RFC 9457 answer: status, code, title, detail
│   ├── BadImage            400  the bytes are no readable picture
│   ├── BadRequest          400  the body is malformed
│   ├── BadApiKey           401  no key, or a wrong one
│   ├── Forbidden           403  what nobody may do as the service is configured
│   ├── NoCard              404  a bundle without a model card (serving/cards.py)
│   ├── NoEmbedding         404  a model whose graph gives no embeddings (inference/scores.py)
│   ├── UnknownModel        404  no bundle of that name (serving/registry.py)
│   ├── UnknownRequest      404  no picture is kept of it (collection/collection.py)
│   ├── ReloadRefused       409  a bundle cannot take over (serving/reload.py)
│   ├── TooManyBytes        413  a body, part or file over its limit
│   ├── TooManyPixels       413  a picture whose header declares more than the limit
│   ├── UnsupportedFormat   415  a content type or file format that is not accepted
│   ├── BadParameter        422  a missing field or an impossible value
│   ├── QueueFull           429  no room; Retry-After says when to try again
│   │   └── UploadsFull     429  no room for its bytes
│   ├── HeadTooLarge        431  headers that are too long
│   ├── InferenceFailed     500  the engine failed on this picture
│   ├── UnknownCoding       501  a transfer coding other than chunked
│   ├── OutOfMemory         503  no memory for this picture now
│   ├── TooManyConnections  503  no room for one more
│   ├── NotReady            503  not ready, or draining
│   │   └── Draining        503  about to end; Connection: close
│   └── DeadlinePassed      504  not answered within request_timeout_s
├── ClientGone              nobody is left to answer
└── StartError              1  the service cannot start; the exit code of the process
    ├── BadSettings         2  an option has an impossible value
    ├── EngineError         3  the bundle or the execution provider cannot be used
    ├── ReloadFailed        1  the service refused, or did not answer (cli/reload.py)
    └── WorkerFailed        its own  a worker could not start, which says why (server/restarts.py)
"""

from typing import ClassVar


class ServiceError(Exception):
    """An error with an HTTP answer. The message is the answer's `detail`: thing, value, expectation."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    @property
    def detail(self) -> str:
        """What the client reads."""
        return str(self)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        return {}


class BadImage(ServiceError):
    """The bytes are no readable picture."""

    status, code, title = 400, "bad_picture", "Not a readable picture"


class BadRequest(ServiceError):
    """The body is malformed."""

    status, code, title = 400, "bad_request", "Malformed request"


class BadApiKey(ServiceError):
    """No API key, or a wrong one."""

    status, code, title = 401, "bad_api_key", "API key missing or wrong"

    @property
    def headers(self) -> dict[str, str]:
        """Tells the client how to authenticate."""
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(ServiceError):
    """Nobody may do that, as the service is configured."""

    status, code, title = 403, "forbidden", "Forbidden"


class TooManyBytes(ServiceError):
    """A body, part or file is over its limit."""

    status, code, title = 413, "too_many_bytes", "Too many bytes"


class TooManyPixels(ServiceError):
    """The picture's header declares more pixels than the limit."""

    status, code, title = 413, "too_many_pixels", "Too many pixels"


class UnsupportedFormat(ServiceError):
    """The content type or file format is not accepted."""

    status, code, title = 415, "unsupported_format", "Format not accepted"


class BadParameter(ServiceError):
    """A missing field or an impossible value."""

    status, code, title = 422, "bad_parameter", "Bad parameter"


class QueueFull(ServiceError):
    """No room for another picture now."""

    status, code, title = 429, "queue_full", "Queue full"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        """When the measured rate will have made room."""
        return {"Retry-After": str(self.retry_after_s)}


class UploadsFull(QueueFull):
    """No room for the bytes of another body now."""

    code, title = "uploads_full", "Too many uploads"


class HeadTooLarge(ServiceError):
    """A request line with its headers, or trailers, are over their limit."""

    status, code, title = 431, "head_too_large", "Request header fields too large"


class InferenceFailed(ServiceError):
    """The engine failed on this picture."""

    status, code, title = 500, "inference_failed", "Inference failed"


class UnknownCoding(ServiceError):
    """The transfer coding is not known here."""

    status, code, title = 501, "unknown_transfer_coding", "Transfer coding not known"


class OutOfMemory(ServiceError):
    """The process has no memory left for this picture, which may be a good one."""

    status, code, title = 503, "out_of_memory", "Out of memory"


class TooManyConnections(ServiceError):
    """The service has as many connections as it may have."""

    status, code, title = 503, "too_many_connections", "Too many connections"


class NotReady(ServiceError):
    """The service is not ready, or is draining."""

    status, code, title = 503, "not_ready", "Not ready"


class Draining(NotReady):
    """The service is about to end, and its connections with it."""

    @property
    def headers(self) -> dict[str, str]:
        """No other request on this one: it might meet the end."""
        return {"Connection": "close"}


class DeadlinePassed(ServiceError):
    """The answer did not come within the time limit."""

    status, code, title = 504, "deadline_passed", "Deadline passed"


class ClientGone(Exception):
    """The client hung up; nobody is left to answer."""


class StartError(Exception):
    """The service cannot start."""

    exit_code: ClassVar[int] = 1


class BadSettings(StartError):
    """An option has an impossible value."""

    exit_code = 2


class EngineError(StartError):
    """The bundle or the execution provider cannot be used."""

    exit_code = 3


def forget_frames(error: BaseException) -> None:
    """Let go of the calls an error came through, once it has been told: they hold the body of the request.

    A future that the error went through is a local variable of one of them, so that they would stay until the garbage
    collector finds them all.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
