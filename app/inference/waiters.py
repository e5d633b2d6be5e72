"""Items that wait for their answers in a batcher, and how each gets it. Knows nothing of batches' order."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from app.telemetry.tracing import CURRENT

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Answered(NamedTuple, Generic[Answer]):
    """An answer and what it took: seconds waiting, seconds in its run (bisection included), items in its batch."""

    answer: Answer
    queue_s: float
    infer_s: float
    batch_size: int


class Observer(Protocol):
    """What the batcher tells of its items and runs."""

    def depth(self, waiting: int, in_flight: int) -> None:
        """Items waiting for an instance, and permits taken."""
        ...

    def ran(self, batch_size: int) -> None:
        """A batch was run."""
        ...

    def dropped(self, stage: str, reason: str) -> None:
        """An item was given up in stage "queue" (its work was saved) or "infer" (its answer was thrown away)."""
        ...

    def rejected(self, reason: str, count: int) -> None:
        """`count` permits were refused."""
        ...


class Waiter(Generic[Item, Answer]):
    """One item on its way. Compared by identity. `since`: when it was let in; `arrived`: when it began to wait.

    in_background: whether all others go before it. trace: of the request that it belongs to, where that is traced.
    """

    __slots__ = ("arrived", "deadline", "future", "in_background", "item", "since", "stage", "timer", "trace")

    def __init__(
        self,
        item: Item,
        deadline: float,
        future: "asyncio.Future[Answered[Answer]]",
        arrived: float,
        since: float,
        *,
        in_background: bool = False,
    ) -> None:
        self.in_background = in_background
        self.item, self.deadline, self.future, self.arrived, self.since = item, deadline, future, arrived, since
        self.stage = "queue"
        self.trace = CURRENT.get()
        self.timer: asyncio.TimerHandle | None = None


def fail(batch: Sequence[Waiter[Item, Answer]], error: Callable[[], Exception]) -> None:
    """An error of its own for each who still waits: its request may add to the words."""
    for waiter in batch:
        if not waiter.future.done():
            waiter.future.set_exception(error())


def next_batch(
    waiting: dict[Waiter[Item, Answer], None], most: int, now: float, run_s: float
) -> tuple[list[Waiter[Item, Answer]], list[Waiter[Item, Answer]]]:
    """Take at most `most`, the first that somebody still waits for and that a run of `run_s` seconds answers in time.

    Returns: these, and those that are too late; their own timeouts report them. Where a run would be too slow for
    everybody, it is tried all the same: it may turn out faster than the last ones.
    """
    batch: list[Waiter[Item, Answer]] = []
    late: list[Waiter[Item, Answer]] = []
    while waiting and len(batch) < most:
        waiter = next(iter(waiting))
        del waiting[waiter]
        if waiter.deadline > now and not waiter.future.done():
            (batch if waiter.deadline > now + run_s else late).append(waiter)
    if late and not batch:
        batch, rest = late[:most], late[most:]
        waiting.update(dict.fromkeys(rest))
        late = []
    for waiter in batch:
        waiter.stage = "infer"
    return batch, late
