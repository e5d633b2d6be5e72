"""BentoML. A hand-written input reads the body into memory; its own `Path` inputs would write a file for each picture.

Its batching takes and gives lists, so that a batched answer is a list of one.
"""

from typing import TYPE_CHECKING, Any

import bentoml
from bentoml import IODescriptor
from starlette.requests import Request

from benchmarks.peers.body import read_image
from benchmarks.peers.classifier import ROUTE, Classifier, Options

if TYPE_CHECKING:
    from _bentoml_impl.serde import Serde

_OPTIONS = Options.from_environment()
_SERVICE: dict[str, Any] = {
    "workers": _OPTIONS.workers,
    "threads": _OPTIONS.pool,
    "traffic": {"timeout": 120},
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
}


class ImageFile(IODescriptor):
    """One picture file."""

    payload: bytes

    @classmethod
    async def from_http_request(cls, request: Request, serde: "Serde") -> "ImageFile":
        """As raw body or multipart field."""
        return cls(payload=await read_image(request))


class Images(IODescriptor):
    """A list of one picture file."""

    payload: list[bytes]

    @classmethod
    async def from_http_request(cls, request: Request, serde: "Serde") -> "Images":
        """As raw body or multipart field."""
        return cls(payload=[await read_image(request)])


@bentoml.service(**_SERVICE)
class Classify:
    """One picture after the other, in PEER_POOL threads."""

    def __init__(self) -> None:
        self.classifier = Classifier(_OPTIONS)

    @bentoml.api(route=ROUTE, input_spec=ImageFile)
    def classify(self, payload: bytes) -> dict[str, Any]:
        """One run."""
        return self.classifier.answer(payload)


@bentoml.service(**_SERVICE)
class ClassifyBatch:
    """What BentoML's dispatcher puts together, in one run."""

    def __init__(self) -> None:
        self.classifier = Classifier(_OPTIONS)

    @bentoml.api(
        route=ROUTE,
        input_spec=Images,
        batchable=True,
        max_batch_size=max(2, _OPTIONS.max_batch_size),  # less is refused, and this class then not served
        max_latency_ms=120_000,
    )
    def classify(self, payload: list[bytes]) -> list[dict[str, Any]]:
        """One run of all."""
        return self.classifier.answers([self.classifier.patches(one) for one in payload])
