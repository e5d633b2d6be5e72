"""LitServe. The API server reads the body, as FastAPI dependencies may, and workers decode and run."""

from collections.abc import Sequence
from typing import Annotated, Any

import litserve
from fastapi import Depends

from benchmarks.peers.body import read_image
from benchmarks.peers.classifier import ROUTE, Classifier, Options
from model.preprocess import Pixels


class Classify(litserve.LitAPI):
    """One picture after the other."""

    def setup(self, device: str) -> None:
        """Open the graph in the worker."""
        self.classifier = Classifier(Options.from_environment())

    def decode_request(self, request: Annotated[bytes, Depends(read_image)]) -> Pixels:
        """The annotation makes LitServe pass on the bytes alone."""
        return self.classifier.patches(request)

    def predict(self, x: Pixels) -> dict[str, Any]:
        """One run."""
        return self.classifier.answers([x])[0]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """It is JSON already."""
        return output


class ClassifyBatch(Classify):
    """Pictures that came within the wait, in one run."""

    def batch(self, inputs: Sequence[Pixels]) -> Sequence[Pixels]:
        """The run stacks them."""
        return inputs

    def predict(self, x: Sequence[Pixels]) -> list[dict[str, Any]]:  # type: ignore[override]
        """One run of all."""
        return self.classifier.answers(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """An answer each."""
        return output


def main() -> None:
    """Serve until told to stop."""
    options = Options.from_environment()
    api = (
        Classify(api_path=ROUTE)
        if options.max_batch_size == 1
        else ClassifyBatch(
            api_path=ROUTE, max_batch_size=options.max_batch_size, batch_timeout=options.max_wait_ms / 1000
        )
    )
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=options.workers, timeout=120, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=options.pool,
        log_level="error",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
