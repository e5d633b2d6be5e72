"""Threads that each run one call at a time for the event loop. Know nothing of what they run.

Each hop between a thread and the loop costs as much as a small picture, so that a thread that has finished a call soon
goes on with the next, and hands over what it has done together.

They are daemons: a call that never returns cannot keep the process from ending, which concurrent.futures would let it.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, ParamSpec, TypeVar

_OVERTAKEN = 50  # times, and a patient call has its turn
_TOGETHER_S = 0.001  # a thread that has worked this long hands over what it has done

P = ParamSpec("P")
T = TypeVar("T")


class _Call(NamedTuple):
    work: Callable[[], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    payload_bytes: int
    patient: bool


class _Ended(NamedTuple):
    call: _Call
    outcome: Any
    error: BaseException | None


_LOOP = attrgetter("call.loop")  # whose a call is


class UnderWay(NamedTuple):
    """A call that a thread is in. `began`: in seconds of time.monotonic(), by which it is known from the next one."""

    number: int
    thread: threading.Thread
    began: float
    payload_bytes: int


class _Turns:
    """Calls that wait, by whom they are for: each in turn has one run. Of one, they run in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting: OrderedDict[Hashable, deque[_Call]] = OrderedDict()

    def append(self, client: Hashable, call: _Call) -> None:
        with self._lock:
            self.waiting.setdefault(client, deque()).append(call)

    def popleft(self) -> _Call:
        """Raises IndexError where none waits."""
        with self._lock:
            if not self.waiting:
                raise IndexError
            client, calls = self.waiting.popitem(last=False)
            call = calls.popleft()
            if calls:
                self.waiting[client] = calls
            return call


class Threads:
    """`count` threads taking calls from one queue, in order."""

    def __init__(self, count: int, name: str) -> None:
        self.count = 0
        self._name = name
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # one for each call that waits; False ends a thread
        self._soon: deque[_Call] = deque()
        self._later = _Turns()
        self._overtaken = 0
        self._threads: list[threading.Thread] = []
        self._under_way: list[tuple[float, _Call] | None] = []  # when the call that each thread is in began
        self._ended: list[list[_Ended]] = []  # what each thread has done and not handed over
        for _ in range(count):
            self._add()

    def submit(
        self, work: Callable[[], T], *, patient: bool = False, client: Hashable = None, payload_bytes: int = 0
    ) -> "asyncio.Future[T]":
        """Run `work` in a thread. A call whose future is done before its turn does not run.

        A patient call is overtaken by those that are not, a few dozen times at most. Of patient calls that wait, each
        client's have their turns: one with many holds up one with a single call by one. Without a client, it is one.
        `payload_bytes`: shown with the calls under way.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        call = _Call(work, future, loop, payload_bytes, patient)
        if patient:
            self._later.append(future if client is None else client, call)
        else:
            self._soon.append(call)
        self._tokens.put(True)
        return future

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `function` returns or raises. Cancelled before its turn, it does not run."""
        return await self.submit(lambda: function(*args, **kwargs))

    def longest_s(self) -> float:
        """For how many seconds the longest of the calls under way has run; 0 where none is."""
        began = [call[0] for call in self._under_way if call is not None]
        return time.monotonic() - min(began) if began else 0.0

    def stalled_s(self) -> float:
        """For how many seconds each of the threads has been in one call; 0 where any is free."""
        calls = self._under_way[: self.count]
        began = [call[0] for call in calls if call is not None]
        return time.monotonic() - max(began) if len(began) == len(calls) else 0.0

    def under_way(self) -> Iterator[UnderWay]:
        """The calls that threads are in."""
        for number, (thread, call) in enumerate(zip(self._threads, self._under_way, strict=False)):
            if call is not None:
                yield UnderWay(number, thread, call[0], call[1].payload_bytes)

    def native_ids(self) -> list[int]:
        """What the system calls the threads."""
        return [thread.native_id for thread in self._threads if thread.native_id is not None]

    def abandon(self, found: UnderWay, error: Exception) -> None:
        """Answer this call with `error`, if it is still under way, and let one more thread do the others' work.

        The call itself cannot be stopped. In the event loop only.
        """
        call = self._under_way[found.number]
        if call is None or call[0] != found.began:
            return
        _settle(call[1].future, None, error)
        _settle_all(list(self._ended[found.number]))  # the thread has done these, and would never hand them over
        with suppress(RuntimeError):  # the system has no thread left
            self._add()

    def stop(self) -> None:
        """Let every thread end after the call it is in and those already queued; waits for none."""
        for _ in range(self.count):
            self._tokens.put(False)

    def _add(self) -> None:
        number = self.count
        thread = threading.Thread(target=self._work, args=(number,), name=f"{self._name}-{number}", daemon=True)
        self._under_way[number:] = [None]
        self._ended[number:] = [[]]
        thread.start()
        self._threads.append(thread)
        self.count += 1

    def _work(self, index: int) -> None:
        while (call := self._next(self._tokens.get())) is not None:
            self._run_some(call, index)
            del call
            self._hand_over(index)

    def _next(self, token: bool) -> _Call | None:
        """The call whose turn it is; None for a thread that is to end."""
        if not token:
            return None
        while True:  # each token stands for a call, but another thread may be faster at the same queue
            later = self._later.waiting
            patient = later and (not self._soon or self._overtaken >= _OVERTAKEN)
            self._overtaken = 0 if patient else self._overtaken + bool(later)
            with suppress(IndexError):
                return (self._later if patient else self._soon).popleft()

    def _hand_over(self, index: int) -> None:
        """Give the event loop what this thread has done; an idle thread keeps no picture alive."""
        ended, self._ended[index] = self._ended[index], []
        for loop, settled in groupby(ended, _LOOP):
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(_settle_all, list(settled))

    def _run_some(self, call: _Call | None, index: int) -> None:
        """Run this call, and those that wait as long as they are few and soon done.

        What is done does not wait for a patient call, which may take hundreds of times as long.
        """
        now = time.monotonic()
        until = now + _TOGETHER_S
        while call is not None:
            if not call.future.done():
                if call.patient:
                    self._hand_over(index)
                self._under_way[index] = (now, call)
                try:
                    self._ended[index].append(_Ended(call, call.work(), None))
                except BaseException as raised:  # noqa: BLE001 -- it belongs to the caller, and the thread lives on
                    self._ended[index].append(_Ended(call, None, raised))
                self._under_way[index] = None
            now = time.monotonic()
            if now > until:
                break
            try:
                call = self._next(self._tokens.get_nowait())
            except Empty:
                break
        else:
            self._tokens.put(False)


def _settle_all(ended: list[_Ended]) -> None:
    for call, outcome, error in ended:
        if error is None and not call.future.done():
            call.future.set_result(outcome)
        else:
            _settle(call.future, outcome, error)


def _settle(future: "asyncio.Future[Any]", outcome: object, error: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # asyncio refuses it: it would end whatever awaits
        future.set_exception(RuntimeError("The call raised StopIteration."))
    elif error is not None:
        future.set_exception(error)
    else:
        future.set_result(outcome)
