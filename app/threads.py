"""Threads that each run one call at a time for the event loop. Know nothing of what they run.

They are daemons: a call that never returns cannot keep the process from ending, which concurrent.futures would let it.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class _Call:
    work: Callable[[], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


class Threads:
    """`count` threads taking calls from one queue, in order."""

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        for index in range(count):
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True).start()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a thread. A call cancelled before its turn does not run."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(lambda: function(*args, **kwargs), future, loop))
        return await future

    def stop(self) -> None:
        """Let every thread end after the call it is in and those already queued; waits for none."""
        for _ in range(self.count):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if not call.future.cancelled():
                _run(call)
            del call  # an idle thread keeps no picture alive


def _run(call: _Call) -> None:
    try:
        outcome, error = call.work(), None
    except BaseException as raised:  # noqa: BLE001 -- whatever it was belongs to the caller, and the thread lives on
        outcome, error = None, raised
    try:
        call.loop.call_soon_threadsafe(_settle, call.future, outcome, error)
    except RuntimeError:  # the loop has closed: nobody waits any more
        return


def _settle(future: "asyncio.Future[Any]", outcome: object, error: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # asyncio refuses it: it would end whatever awaits
        future.set_exception(RuntimeError("The call raised StopIteration."))
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)
