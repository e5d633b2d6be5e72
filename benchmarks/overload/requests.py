"""Requests made beforehand, and what a client knows of one that it sent. Knows nothing of sockets."""

import json
import re
from dataclasses import dataclass

from benchmarks.serving.cells import Body
from benchmarks.serving.workloads import Answered, Workload, encoded

DEADLINE_HEADER = "X-Request-Timeout-Ms"
RIGHT_STATUS = 200
REFUSALS = (429, 503, 504)
_FIRST_LABEL = re.compile(rb'"label": ?("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Request:
    """All its bytes, and how the right answer names the best label: as a JSON string."""

    content: bytes
    mark: bytes


class Ticket:
    """One request on its way. Times in seconds of one clock: when it was due, sent and answered; 0.0 where not yet.

    `status`: 0 where there was no answer. `first`: the ticket of which this is the second try.
    """

    __slots__ = ("done", "due", "first", "request", "retry_after_s", "right", "sent", "status")

    def __init__(self, request: Request, due: float, first: "Ticket | None" = None) -> None:
        self.request = request
        self.due = due
        self.first = first
        self.sent = self.done = 0.0
        self.status = 0
        self.right = False
        self.retry_after_s: float | None = None

    @property
    def latency_s(self) -> float:
        """From when it was due, so that no delay of the client hides one of the server."""
        return self.done - self.due

    @property
    def is_refused(self) -> bool:
        """The service said that it would not, or could not, in time."""
        return self.status in REFUSALS


def requests_of(workload: Workload, body: Body, deadline_ms: float) -> list[Request]:
    """A request for each picture, with the client's deadline."""
    plan = workload.plans[body]
    images = [image for group in workload.groups for image in group]
    return [_request(image, body, plan.path, plan.content_type, deadline_ms) for image in images]


def answers_rightly(body: bytes, mark: bytes) -> bool:
    """Whether the first label in an answer is that of `mark`."""
    found = _FIRST_LABEL.search(body)
    return found is not None and found[1] == mark


def _request(image: Answered, body: Body, path: str, content_type: str, deadline_ms: float) -> Request:
    payload = encoded(body, image.payload)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(payload)}\r\n{DEADLINE_HEADER}: {deadline_ms:g}\r\n\r\n"
    )
    return Request(head.encode() + payload, json.dumps(image.label, ensure_ascii=False).encode())
