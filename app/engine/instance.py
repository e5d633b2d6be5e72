"""An instance: one runner, and the one thread that uses it. Knows nothing of what is run, or of event loops.

ONNX Runtime keeps a captured CUDA graph with the thread that captured it, so that a runner is also made in its thread.
"""

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

from app.engine.runners import Runner

P = ParamSpec("P")
T = TypeVar("T")

Work = Callable[[], Callable[[], object]]  # what it returns tells whoever waits, once the thread is free
_Calls = SimpleQueue[Work | None]


class _UnderWay:
    """What its thread does. `began`: seconds of time.monotonic(); None while it waits."""

    __slots__ = ("began",)

    def __init__(self) -> None:
        self.began: float | None = None


class Instance:
    """`make` is called in the thread, and what it makes is `runner`. Raises what `make` raises.

    The thread is a daemon, so that a run that never returns cannot keep the process from ending. It ends with this
    object.
    """

    def __init__(self, make: Callable[[], Runner]) -> None:
        self._calls: _Calls = SimpleQueue()
        self._under_way = _UnderWay()
        threading.Thread(target=_work, args=(self._calls, self._under_way), name="instance", daemon=True).start()
        weakref.finalize(self, self._calls.put, None).atexit = False
        self.submit = self._calls.put  # work that raises nothing, for the thread once it has done what came before it
        self.runner = self.call(make)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises, in the thread. Waits for it, and for what was submitted before."""
        future: Future[T] = Future()

        def work() -> Callable[[], object]:
            try:
                return partial(future.set_result, function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 -- whatever it was belongs to the caller
                return partial(future.set_exception, error)

        self.submit(work)
        return future.result()

    def busy_s(self) -> float:
        """For how many seconds its current call has run; 0 where it is idle."""
        began = self._under_way.began
        return 0.0 if began is None else time.monotonic() - began


def _work(calls: _Calls, under_way: _UnderWay) -> None:
    while (work := calls.get()) is not None:
        under_way.began = time.monotonic()
        tell = work()
        under_way.began = None
        tell()
        del work, tell  # an idle thread keeps no image alive
