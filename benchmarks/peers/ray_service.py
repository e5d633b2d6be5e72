"""Ray Serve: a proxy that hands requests to replicas, on a cluster of this machine alone, made and ended with it."""

import tempfile

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.peers.body import read_image
from benchmarks.peers.classifier import ROUTE, Classifier, Options

_OPTIONS = Options.from_environment()
_STORE_BYTES = 128 << 20  # nothing large goes through the object store


@serve.deployment(num_replicas=_OPTIONS.workers, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Classify:
    """One picture after the other."""

    def __init__(self) -> None:
        self.classifier = Classifier(_OPTIONS)

    async def __call__(self, request: Request) -> JSONResponse:
        """One run."""
        return JSONResponse(self.classifier.answer(await read_image(request)))


@serve.deployment(num_replicas=_OPTIONS.workers, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class ClassifyBatch:
    """Pictures that came within the wait, in one run."""

    def __init__(self) -> None:
        self.classifier = Classifier(_OPTIONS)

    @serve.batch(max_batch_size=_OPTIONS.max_batch_size, batch_wait_timeout_s=_OPTIONS.max_wait_ms / 1000)
    async def classify(self, payloads: list[bytes]) -> list[JSONResponse]:
        """One run of all."""
        answers = self.classifier.answers([self.classifier.patches(payload) for payload in payloads])
        return [JSONResponse(answer) for answer in answers]

    async def __call__(self, request: Request) -> JSONResponse:
        """Wait for the others."""
        response: JSONResponse = await self.classify(await read_image(request))
        return response


def main() -> None:
    """Serve until told to stop."""
    ray.init(
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _temp_dir=tempfile.gettempdir(),  # which whoever starts this takes away
        logging_level="warning",
    )
    quiet = {"enable_access_log": False}
    serve.start(http_options={"host": "127.0.0.1", "port": _OPTIONS.port}, logging_config=quiet)
    deployment = Classify if _OPTIONS.max_batch_size == 1 else ClassifyBatch
    serve.run(deployment.bind(), route_prefix=ROUTE, blocking=True, logging_config=quiet)


if __name__ == "__main__":
    main()
