"""The service with one front end and processes that decode and run: everything of app/ but what is below a classifier.

    MIXER_BUNDLE=... python -m benchmarks.one_queue.service --engines N [--depth D]

Takes the settings of `mixer serve`. What is behind other pictures (explanations, streams) is not done, nor are reloads,
several models, or an engine that dies: it is here to be measured by python -m benchmarks.one_queue.
"""

import argparse
import math
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, cast

import app.composition as parts
from app import main as composition
from app.decoding.decoder import decode
from app.decoding.raw_pixels import with_channels
from app.engine.engine import open_engine
from app.errors import ServiceError
from app.inference.admission import Admission, Limits
from app.inference.classifier import Classifier
from app.inference.scores import scores_of
from app.server import serve as server
from app.settings import Settings
from app.telemetry import logs
from benchmarks.one_queue.engines import Engines, Picture, Run
from model.preprocess import smallest_useful_side, to_patches

_ENGINES: list[Engines] = []


class Remote(Classifier):
    """Hands pictures to engines as they came."""

    def __init__(self, *arguments: Any, limits: Limits, **more: Any) -> None:
        (engines,) = _ENGINES
        super().__init__(*arguments, limits=replace(limits, instances=engines.count * engines.depth), **more)
        batcher = cast(Any, self.batcher)
        batcher._run, self._decodes_in_runs = engines.run, False
        if engines.shares_out:
            batcher._limits = _SharedOut(batcher._limits, batcher.admission, engines.count)

    async def decoded(  # type: ignore[override]
        self, work: object, payload: Picture, deadline: float, client: Hashable = None, *, patient: bool
    ) -> tuple[Picture, float]:
        """Nothing is decoded here."""
        return payload, 0.0


class _SharedOut:
    """Limits under which no engine takes more of the pictures that are here than its share."""

    def __init__(self, limits: Limits, admission: Admission, engines: int) -> None:
        self.instances, self.max_wait_s, self.queue_capacity = limits.instances, 0.0, limits.queue_capacity
        self._most, self._admission, self._engines = limits.max_batch_size, admission, engines

    @property
    def max_batch_size(self) -> int:
        return min(self._most, max(1, -(-self._admission.here // self._engines)))


def opened(settings: Settings) -> Callable[[], Run]:
    """What each engine process calls."""

    def open_run() -> Run:
        engine = open_engine(parts.engine_options(settings.model_copy(update={"instances": 1, "intra_op_threads": 1})))
        limits, spec = parts.build_decode_limits(settings), engine.spec
        side, temperature = smallest_useful_side(spec), spec.temperature

        def patches_of(picture: Picture) -> Any:
            try:
                if isinstance(picture, bytes):
                    return to_patches(decode(picture, spec.channels, side, limits, math.inf), spec)
                return to_patches(with_channels(picture, spec.channels, limits.max_pixels), spec)
            except ServiceError as error:
                return error

        def run(pictures: Sequence[Picture]) -> list[object]:
            found = [patches_of(picture) for picture in pictures]
            sound = [one for one in found if not isinstance(one, ServiceError)]
            scores = iter(scores_of(engine.run(sound), temperature) if sound else [])
            return [one if isinstance(one, ServiceError) else next(scores) for one in found]

        return run

    return open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--depth", type=int, default=1, help="batches that an engine has at most")
    parser.add_argument("--share-out", action="store_true", help="no engine takes more than its share of what waits")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args()
    settings = Settings(workers=1, instances=1, intra_op_threads=1, decode_threads=1, port=asked.port)
    logs.configure(settings.log_format, settings.log_level)
    _ENGINES.append(Engines(asked.engines, asked.depth, 64, opened(settings), shares_out=asked.share_out))
    cast(Any, parts).Classifier = Remote
    sys.exit(server.serve(lambda worker: composition.create_service(settings, worker=worker), settings))


if __name__ == "__main__":
    main()
