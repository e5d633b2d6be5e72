"""An event loop whose clock jumps to the next timer as soon as nothing else is left to do: no test waits for it."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """time() starts at 0. `turns` counts how often the loop has gone round; `complaints` are its unhandled errors."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.turns = 0
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        self.turns += 1
        if not self._ready and not self._stopping:
            timers = [handle.when() for handle in self._scheduled if not handle.cancelled()]
            if not timers:
                raise RuntimeError("Everything waits for something that will never happen.")
            self.now_s = max(self.now_s, min(timers))
        super()._run_once()


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work` in virtual time; fails where the loop had to complain of an unhandled error."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        result = runner.run(work)
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
    assert loop.complaints == []
    return result


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Makes a test of a coroutine function."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtually(test(*args, **kwargs))

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


async def clock_at(when: float) -> None:
    """Until the virtual clock shows `when`, and what was due then has happened."""
    loop = asyncio.get_running_loop()
    reached = asyncio.Event()
    timer = loop.call_at(when, reached.set)
    try:
        await reached.wait()
    finally:
        timer.cancel()
