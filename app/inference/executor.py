"""Batches of patches -> scores, on the instances of an engine. Knows nothing of labels, or of who waits."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from app.engine.engine import Engine
from app.engine.instance import Instance
from app.engine.runners import Patches
from app.inference.scores import Scores, scores_of
from app.inference.undecoded import Undecoded
from app.telemetry.metrics import Metrics
from app.telemetry.model_metrics import ModelMetrics


class Ran(list[Scores | Exception]):
    """The scores of a run, or of a picture the error that it is.

    instance: which one it was on. began: when, in seconds of time.perf_counter(), once the pictures were decoded.
    images: how many ran.
    """

    instance: int
    began: float
    images: int


class Executor:
    """Gives each batch to an instance that is idle. As many may run at once as the engine has instances.

    `decode`: makes patches of what is not decoded yet, in the thread of the run, which has decoded for so many seconds.
    """

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics | ModelMetrics,
        decode: Callable[[Undecoded, float], Patches],
    ) -> None:
        self._engine, self._decode = engine, decode
        self._metrics = metrics
        self._idle = deque(enumerate(engine.pool))

    def run(self, batch: list[Patches | Undecoded]) -> "asyncio.Future[Ran]":
        """What the network says of each, in order; or whatever the run raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ran] = loop.create_future()
        numbered = self._idle.popleft()
        numbered[1].submit(partial(self._work, numbered, batch, loop, future))
        return future

    def padding(self, batch_size: int) -> int:
        """How many empty images pad a run of `batch_size` pictures."""
        return self._engine.pool[0].runner.padding(batch_size) if self._engine.pads else 0

    def busy_s(self) -> float:
        """For how many seconds the longest run under way has run; 0 where none is."""
        return max(instance.busy_s() for instance in self._engine.pool)

    def _work(
        self,
        numbered: tuple[int, Instance],
        batch: list[Patches | Undecoded],
        loop: asyncio.AbstractEventLoop,
        future: "asyncio.Future[Ran]",
    ) -> Callable[[], None]:
        """Run the batch, in the instance's thread."""
        outcome: Ran | BaseException
        try:
            number, instance = numbered
            outcome = self._ran(instance, batch)
            outcome.instance = number
        except BaseException as error:  # noqa: BLE001 -- whatever it was belongs to the batch, and the thread lives on
            outcome = error
        return partial(_tell, loop, partial(self._settle, numbered, len(batch), outcome, future))

    def _ran(self, instance: Instance, batch: list[Patches | Undecoded]) -> Ran:
        errors: dict[int, Exception] = {}
        ready: list[Patches] = []
        began_s = time.thread_time()
        for place, one in enumerate(batch):
            found = self._decoded(one, time.thread_time() - began_s) if isinstance(one, Undecoded) else one
            if isinstance(found, Exception):
                errors[place] = found
            else:
                ready.append(found)
        began = time.perf_counter()
        ran = Ran(scores_of(instance.runner.run(ready), self._engine.spec.temperature) if ready else ())
        for place in sorted(errors):
            ran.insert(place, errors[place])
        ran.began, ran.images = began, len(ready)
        return ran

    def _decoded(self, picture: Undecoded, spent_s: float) -> Patches | Exception:
        """Its patches, or the error that it is, which holds no more than this call of those that it came through."""
        try:
            return self._decode(picture, spent_s)
        except StopIteration:  # no future takes it
            return RuntimeError("Decoding raised StopIteration.")
        except Exception as error:  # noqa: BLE001 -- whatever it was belongs to this picture
            return error

    def _settle(
        self,
        numbered: tuple[int, Instance],
        batch_size: int,
        outcome: Ran | BaseException,
        future: "asyncio.Future[Ran]",
    ) -> None:
        """Hand the result over, in the event loop."""
        self._idle.append(numbered)
        if self._engine.pads:
            self._metrics.padded(numbered[1].runner.padding(batch_size))
        if future.done():
            return
        if not isinstance(outcome, BaseException):
            future.set_result(outcome)
        elif isinstance(outcome, Exception) and not isinstance(outcome, StopIteration):
            future.set_exception(outcome)
        else:  # asyncio refuses StopIteration, and all others would end whatever awaits, or the event loop itself
            future.set_exception(RuntimeError(f"The run raised {type(outcome).__name__}."))


def _tell(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop has closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
