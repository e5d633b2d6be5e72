"""mosec: its Rust front hands the body to worker processes; one stage, or decoding and running as two.

A worker sees the body without its headers, so that there is no multipart.
"""

import json
from collections.abc import Sequence
from typing import Any

from mosec import Server, Worker

from benchmarks.peers.classifier import ROUTE, Classifier, Options
from model.preprocess import Pixels

_TIMEOUT_S = 120


class _Stage(Worker):
    """A worker with the graph open."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = Classifier(Options.from_environment())

    def deserialize(self, data: bytes) -> bytes:
        """The body is the picture."""
        return data

    def serialize(self, data: dict[str, Any]) -> bytes:
        """The answer as JSON."""
        return json.dumps(data).encode()


class Classify(_Stage):
    """Decodes and runs, one picture after the other."""

    def forward(self, data: bytes) -> dict[str, Any]:
        """One run."""
        return self.classifier.answer(data)


class ClassifyBatch(_Stage):
    """Decodes all, then runs all."""

    def forward(self, data: Sequence[bytes]) -> list[dict[str, Any]]:
        """One run of all."""
        return self.classifier.answers([self.classifier.patches(payload) for payload in data])


class Decode(_Stage):
    """The first of two stages."""

    def forward(self, data: bytes) -> Pixels:
        """Decode one."""
        return self.classifier.patches(data)


class RunBatch(_Stage):
    """The second of two stages."""

    def forward(self, data: Sequence[Pixels]) -> list[dict[str, Any]]:
        """One run of all."""
        return self.classifier.answers(data)


def main() -> None:
    """Serve until told to stop. PEER_POOL above 1: so many processes decode for those that run."""
    options = Options.from_environment()
    server = Server()
    if options.pool > 1:
        server.append_worker(Decode, num=options.pool, timeout=_TIMEOUT_S, route=ROUTE)
    if options.max_batch_size == 1:
        server.append_worker(Classify, num=options.workers, timeout=_TIMEOUT_S, route=ROUTE)
    else:
        server.append_worker(
            ClassifyBatch if options.pool == 1 else RunBatch,
            num=options.workers,
            max_batch_size=options.max_batch_size,
            max_wait_time=options.max_wait_ms,
            timeout=_TIMEOUT_S,
            route=ROUTE,
        )
    server.run()


if __name__ == "__main__":
    main()
