"""Dynamic batching of opaque items. Knows nothing of pictures, ONNX or HTTP.

There is no loop and no timer: an item that arrives, and an instance that becomes free, each start what can be run. A
batch is whatever waits at that moment. Admission comes first: a `Permit` is held from before the item is there until
its answer, so that one number, queue_capacity, bounds all the work inside the service.

Work in the background, such as the many runs of an explanation, is taken up where nothing else waits, in batches so
small that what comes meanwhile waits for less than a full run.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Generic

from app.errors import DeadlinePassed, InferenceFailed, NotReady, QueueFull
from app.inference.admission import Admission, Limits
from app.inference.permits import BackgroundPermits, OnTheirWay, Permit
from app.inference.waiters import Answer, Answered, Item, Observer, Waiter, fail, next_batch
from app.system.quota import Quota

_ITEM = attrgetter("item")
_ENDS = "The service shut down before an answer; expected a request to another instance."
_NEWS = 0.2  # how much the last run counts in what runs take
OnRun = Callable[[Sequence[Waiter[Item, Answer]], float, float, Sequence[Answer | Exception] | Exception], None]
BACKGROUND_SHARE = 4  # of a full batch, one in the background has the fourth part


class Batcher(Generic[Item, Answer]):
    """Runs items in batches through `run`, which takes a list of items and returns as many answers, in order.

    An item may have an error for its answer. Where items were prepared before they ran, `began` of the answers says, by
    `clock`, when the run itself began, and `images` how many were in it.

    Deadlines are in the event loop's time. Durations are measured by `clock`, in seconds; else by the loop's, too.
    `permits`: those that it has with other batchers together; else queue_capacity of its own. `background`: of these,
    those that work in the background may have; else half. `on_traced_run`: told of every run, where there are traces.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Answer | Exception]]],
        limits: Limits,
        observer: Observer,
        clock: Callable[[], float] | None = None,
        permits: Quota | None = None,
        background: Quota | None = None,
        on_traced_run: "OnRun[Item, Answer] | None" = None,
    ) -> None:
        self._run, self._limits, self._observer = run, limits, observer
        self._on_traced_run = on_traced_run
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._waiting: dict[Waiter[Item, Answer], None] = {}  # an ordered set: first come, first served
        self._background: dict[Waiter[Item, Answer], None] = {}  # likewise
        self.background_batch_size = max(1, limits.max_batch_size // BACKGROUND_SHARE)
        self._running: dict[asyncio.Task[None], list[Waiter[Item, Answer]]] = {}
        in_runs = limits.instances * limits.max_batch_size
        self.admission = Admission(permits or Quota(limits.queue_capacity), in_runs + 1, background)
        self._empty = asyncio.Event()
        self._empty.set()
        self._run_s = 0.0  # what a run has taken lately
        self._late: list[Waiter[Item, Answer]] = []  # not run, and not told so yet
        self._timer: asyncio.TimerHandle | None = None
        self._free: asyncio.Future[None] | None = None  # somebody waits until there is nothing else to do
        self._free_below = 1
        self.admitted = 0  # items, since the beginning
        self._on_their_way = OnTheirWay()
        self._dispatch_scheduled = self._closing = self._closed = False

    # --- admission ---

    def admit(self, deadline: float = math.inf, *, here: bool = True) -> "Permit[Item, Answer]":
        """A permit for one item, to be used as a context manager. `here`: whether the item is; else it may be lost.

        Raises: QueueFull when there is no room, or no time to answer by `deadline`; NotReady once it closes.
        """
        self._admit(1, deadline, here=here)
        permit: Permit[Item, Answer] = Permit(self, self._clock(), here=here)
        if not here:
            self._on_their_way.add(permit)
        return permit

    def admit_all(self, count: int, deadline: float = math.inf) -> "list[Permit[Item, Answer]]":
        """Permits for `count` items, all or none, each to be used as a context manager. Raises as admit does."""
        self._admit(count, deadline, here=True)
        return [Permit(self, self._clock(), here=True) for _ in range(count)]

    def admit_in_background(self, items: int, deadline: float = math.inf) -> "BackgroundPermits[Item, Answer]":
        """Permits under which `items` are run behind all others: one each, and an eighth of the queue's at most.

        Raises as admit does.
        """
        held = max(1, min(items, self._limits.queue_capacity // 8))
        self._admit(held, deadline, here=True, in_background=items)
        return BackgroundPermits(self, held, self._clock())

    def in_spare_time(self) -> "BackgroundPermits[Item, Answer]":
        """Permits that take no place from anybody, for items behind all others, as many as their owner sees fit.

        Raises: NotReady once it closes.
        """
        if self._closing:
            raise NotReady("The service is draining; expected nothing new.")
        return BackgroundPermits(self, 0, self._clock())

    def _admit(self, count: int, deadline: float, *, here: bool, in_background: int = 0) -> None:
        if self._closing:
            if not in_background:
                self._observer.rejected("draining", count)
            raise NotReady("The service is draining; expected a request to another instance.")
        now = asyncio.get_running_loop().time()
        try:
            if in_background:
                self.admission.take_in_background(count, in_background, now, deadline)
            else:
                self.admission.take(count, now, deadline, here=here)
        except QueueFull:
            if not in_background:  # what waits there comes again by itself, or is counted by who asked
                self._observer.rejected("queue_full", count)
            raise
        self.admitted += count
        self._empty.clear()
        self._observer.depth(len(self._waiting) + len(self._background), self.admission.inside)

    def release(self, *, here: bool) -> None:
        """Take one permit back. `here`: whether its item was."""
        self.admission.release(asyncio.get_running_loop().time(), here=here)
        if not self.admission.inside:
            self._empty.set()
        if self._free is not None:
            self._tell_if_free()
        self._observer.depth(len(self._waiting) + len(self._background), self.admission.inside)

    def release_in_background(self, count: int) -> None:
        """Take back `count` of the permits for what is run behind all others."""
        self.admission.release_in_background(count)
        if not self.admission.inside:
            self._empty.set()
        if self._free is not None:
            self._tell_if_free()
        self._observer.depth(len(self._waiting) + len(self._background), self.admission.inside)

    # --- waiting ---

    def submit(
        self, item: Item, deadline: float, since: float, *, in_background: bool = False
    ) -> "asyncio.Future[Answered[Answer]]":
        """As the permit's `answer`, for one that was given at `since`. `in_background`: whether all others go first."""
        if self._closed:
            raise NotReady("The service has shut down; expected a request to another instance.")
        loop = asyncio.get_running_loop()
        waiter: Waiter[Item, Answer] = Waiter(
            item, deadline, loop.create_future(), self._clock(), since, in_background=in_background
        )
        waiter.timer = loop.call_at(deadline, self._expire, waiter)
        waiter.future.add_done_callback(partial(self._told, waiter))
        (self._background if in_background else self._waiting)[waiter] = None
        self._dispatch_soon()
        return waiter.future

    def _told(self, waiter: Waiter[Item, Answer], future: "asyncio.Future[Answered[Answer]]") -> None:
        """The item has its answer or its error, or its waiting task was cancelled."""
        if waiter.timer is not None:
            waiter.timer.cancel()
        if future.cancelled():
            self._give_up(waiter, "client_gone")
        elif future.exception() is None and not waiter.in_background:
            self.admission.took(self._clock() - waiter.since)

    def _expire(self, waiter: Waiter[Item, Answer]) -> None:
        if not waiter.future.done():
            self._give_up(waiter, "deadline")
            waiter.future.set_exception(DeadlinePassed("The picture was not classified before its deadline."))

    def _give_up(self, waiter: Waiter[Item, Answer], reason: str) -> None:
        if waiter.trace is not None and waiter.stage == "queue":
            waiter.trace.note("queue", waiter.arrived, self._clock() - waiter.arrived)
        if waiter.in_background:
            self._background.pop(waiter, None)
        else:
            self._waiting.pop(waiter, None)
            self._observer.dropped(waiter.stage, reason)

    # --- dispatch ---

    def _dispatch_soon(self) -> None:
        """At the end of this turn of the event loop, so that items that arrive in the same turn share a batch."""
        if not self._dispatch_scheduled:
            self._dispatch_scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_scheduled = False
        loop, limits = asyncio.get_running_loop(), self._limits
        while len(self._running) < limits.instances:
            if self._waiting:
                if limits.max_wait_s and not self._is_due():
                    break
                batch, late = next_batch(self._waiting, limits.max_batch_size, loop.time(), self._run_s)
                if late or self._late:
                    self._late = [waiter for waiter in (*self._late, *late) if not waiter.future.done()]
            elif self._background:
                batch, _ = next_batch(self._background, self.background_batch_size, loop.time(), 0.0)
            else:
                break
            if batch:
                task = loop.create_task(self._run_batch(batch))
                self._running[task] = batch
                task.add_done_callback(self._instance_freed)
        self._observer.depth(len(self._waiting) + len(self._background), self.admission.inside)

    def _is_due(self) -> bool:
        """Full, or the first item has waited long enough; otherwise a timer is set for when it has."""
        left_s = next(iter(self._waiting)).arrived + self._limits.max_wait_s - self._clock()
        if left_s <= 0 or len(self._waiting) >= self._limits.max_batch_size:
            return True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(left_s, self._dispatch)
        return False

    # --- spare time ---

    async def until_free(self, below: int) -> None:
        """Until an instance is idle, no item waits, and fewer than `below` are here. One may wait for that."""
        self._free_below = below
        while not self._is_free():
            self._free = asyncio.get_running_loop().create_future()
            try:
                await self._free
            finally:
                self._free = None

    def _is_free(self) -> bool:
        is_idle = len(self._running) < self._limits.instances and not self._waiting and not self._background
        return is_idle and self.admission.here < self._free_below

    def _tell_if_free(self) -> None:
        if self._free is not None and not self._free.done() and self._is_free():
            self._free.set_result(None)

    # --- running ---

    def _instance_freed(self, task: "asyncio.Task[None]") -> None:
        del self._running[task]
        if self._waiting or self._background:
            self._dispatch_soon()
        elif self._free is not None:
            self._tell_if_free()

    async def _run_batch(self, batch: list[Waiter[Item, Answer]]) -> None:
        started = self._clock()
        try:
            answers = await self._run(list(map(_ITEM, batch)))
            count = len(answers)
        except Exception as error:  # noqa: BLE001 -- whatever the run raises must reach its items, not end the batcher
            if self._on_traced_run is not None:
                self._on_traced_run(batch, started, self._clock() - started, error)
            await self._bisect(batch, error)
            return
        if count == len(batch):
            self._answer(batch, answers, started)
        else:
            fail(batch, partial(InferenceFailed, f"A run of {len(batch)} items gave {count} answers. This is a bug."))

    def _answer(self, batch: list[Waiter[Item, Answer]], answers: Sequence[Answer | Exception], started: float) -> None:
        """Give each item of a batch its answer, unless its future is done already."""
        began, count = getattr(answers, "began", started), getattr(answers, "images", len(batch))
        now = self._clock()
        infer_s = now - began
        if count:
            self._observer.ran(count)
        if count and not batch[0].in_background:
            self.admission.answered(count, asyncio.get_running_loop().time())
            self._run_s += (now - started - self._run_s) * _NEWS
        for waiter, answer in zip(batch, answers, strict=True):
            if waiter.future.done():
                continue
            if isinstance(answer, Exception):
                waiter.future.set_exception(answer)
            else:
                waiter.future.set_result(Answered(answer, began - waiter.arrived, infer_s, count))
        if self._on_traced_run is not None and count:  # before any of those that wait goes on
            self._on_traced_run(batch, began, infer_s, answers)

    async def _bisect(self, batch: list[Waiter[Item, Answer]], error: Exception) -> None:
        """Run both halves of a failed batch on their own, down to the one item that makes it fail."""
        if len(batch) == 1:
            fail(batch, lambda: error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if wanted := [waiter for waiter in half if not waiter.future.done()]:
                await self._run_batch(wanted)

    def fail_run(self, item: Item, error: Exception) -> None:
        """Nothing becomes of the run that this item is in: it gets `error`, the others NotReady."""
        for batch in self._running.values():
            if any(waiter.item is item for waiter in batch):
                fail([waiter for waiter in batch if waiter.item is item], lambda: error)
                fail(batch, partial(NotReady, _ENDS))

    # --- shutdown ---

    async def close(self, drain_timeout_s: float) -> None:
        """Refuse new permits, serve those held, and after `drain_timeout_s` fail what still waits with NotReady."""
        self._closing = True
        try:
            async with asyncio.timeout(drain_timeout_s):
                await self._empty.wait()
        except TimeoutError:
            running = (waiter for batch in self._running.values() for waiter in batch)
            stranded = [*self._waiting, *self._background, *self._late, *running]
            fail(stranded, partial(NotReady, _ENDS))
        self._closed = True
        self._waiting.clear()
        self._background.clear()
        self._on_their_way.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._running):
            task.cancel()
