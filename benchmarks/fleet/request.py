"""One request on its way through a service, and its one end. Knows nothing of how long anything takes."""

from collections.abc import Callable
from enum import Enum


class End(Enum):
    """How a request ends, for its client."""

    ANSWERED = 200
    REFUSED = 429
    DRAINING = 503
    EXPIRED = 504
    BROKEN = 0  # no connection, or one that broke off


class Request:
    """One try of a client. Times in seconds; `deadline` is its own, counted from when the service has its first byte.

    `heard`: told of the end, once. `following`: the same, sent to another pod. `is_over`: whether nobody waits any more
    for what the service does about it. It has what the service's own next_batch asks of one that waits: `deadline`,
    `stage`, and `future.done()`.
    """

    __slots__ = (
        "deadline", "decode_s", "due", "end", "ended", "following", "heard", "is_here", "is_over", "let_in", "number",
        "retry_after_s", "sent", "stage", "status", "timeout_s", "tries", "worker",
    )  # fmt: skip

    def __init__(
        self, number: int, due: float, timeout_s: float, decode_s: float, heard: Callable[["Request"], object]
    ) -> None:
        self.number, self.due, self.timeout_s, self.decode_s, self.heard = number, due, timeout_s, decode_s, heard
        self.sent = due
        self.deadline = due + timeout_s
        self.let_in = self.ended = 0.0
        self.end: End | None = None
        self.retry_after_s = 0.0
        self.stage = "gate"
        self.is_over = self.is_here = False
        self.tries = 1
        self.worker: object | None = None
        self.following: Request | None = None

    @property
    def future(self) -> "Request":
        """What the batcher asks whether anybody still waits."""
        return self

    def done(self) -> bool:
        """Whether nobody does."""
        return self.is_over

    @property
    def latency_s(self) -> float:
        """From when it was due to its end."""
        return self.ended - self.due

    def finish(self, end: End, now: float) -> None:
        """Tell its client. Raises RuntimeError at a second end."""
        if self.end is not None:
            raise RuntimeError(
                f"Request {self.number} ended as {self.end.name} and again as {end.name}. This is a bug."
            )
        self.end, self.ended, self.is_over = end, now, True
        self.heard(self)
