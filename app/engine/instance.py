"""One thread of its own for work that must always be done by the same one. Knows nothing of what it runs.

ONNX Runtime keeps a captured CUDA graph with the thread that captured it: another thread would capture it anew.
"""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Calls = SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]


class InstanceThread:
    """A daemon, so that a run that never returns cannot keep the process from ending. It ends with this object."""

    def __init__(self, name: str) -> None:
        self._calls: _Calls = SimpleQueue()
        threading.Thread(target=_work, args=(self._calls,), name=name, daemon=True).start()
        weakref.finalize(self, self._calls.put, None).atexit = False

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises, in this instance's thread. Waits for it, and for the calls before it."""
        future: Future[T] = Future()
        self._calls.put((lambda: function(*args, **kwargs), future))
        return future.result()


def _work(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        work, future = call
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 -- whatever it was belongs to the caller, and the instance lives on
            future.set_exception(error)
        del call, work, future  # an idle instance keeps no picture alive
