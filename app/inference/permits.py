"""The right of one item to be inside, from before it is there until its answer. Knows nothing of batches."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Self

from app.inference.waiters import Answer, Answered, Item

if TYPE_CHECKING:
    from app.inference.batcher import Batcher

_ON_ITS_WAY_S = 0.25  # for an item that is let in before it is here; a slow one keeps no permit from others


class Permit(Generic[Item, Answer]):
    """A right to be inside the batcher, held while its item arrives, is prepared, waits and runs."""

    __slots__ = ("_batcher", "_is_held", "_is_here", "_since")

    def __init__(self, batcher: "Batcher[Item, Answer]", since: float, *, here: bool) -> None:
        self._batcher = batcher
        self._since = since
        self._is_here, self._is_held = here, True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def lapse(self) -> None:
        """Release it, unless its item is here."""
        if not self._is_here:
            self.release()

    def arrive(self) -> bool:
        """The item is here. False where that took so long that the permit is another's: one has to ask anew."""
        if self._is_held:
            self._is_here = True
            self._batcher.admission.arrive(1, asyncio.get_running_loop().time())
        return self._is_held

    def release(self) -> None:
        """Make room for another; once, however often it is said."""
        if self._is_held:
            self._is_held = False
            self._batcher.release(here=self._is_here)

    def answer(self, item: Item, deadline: float) -> "asyncio.Future[Answered[Answer]]":
        """The answer to `item`, until `deadline` (the event loop's clock).

        Raises: NotReady after the end. The future fails with DeadlinePassed, NotReady at shutdown, InferenceFailed for
        a broken run, or what the run itself raised for this very item.
        """
        return self._batcher.submit(item, deadline, self._since)


class BackgroundPermits(Generic[Item, Answer]):
    """`held` rights to be inside the batcher for work that is run behind all other, one part after the other.

    At the end of the with statement, what has no answer yet is given up.
    """

    def __init__(self, batcher: "Batcher[Item, Answer]", held: int, since: float) -> None:
        self._batcher, self._since = batcher, since
        self.held = held
        self._asked: list[asyncio.Future[Answered[Answer]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for future in self._asked:
            future.cancel()
        self.keep(0)

    def keep(self, count: int) -> None:
        """Make room for others: no more than `count` are needed from here on."""
        if (spare := self.held - count) > 0:
            self.held = count
            self._batcher.release_in_background(spare)

    def answer(self, item: Item, deadline: float) -> "asyncio.Future[Answered[Answer]]":
        """The answer to one item. As `answers`."""
        return self.answers((item,), deadline)[0]

    def answers(self, items: Sequence[Item], deadline: float) -> "list[asyncio.Future[Answered[Answer]]]":
        """The answer to each, until `deadline` (the event loop's clock). Raises and fails as a permit's `answer`."""
        futures = [self._batcher.submit(item, deadline, self._since, in_background=True) for item in items]
        self._asked = [future for future in self._asked if not future.done()] + futures
        return futures


class OnTheirWay:
    """Permits whose items are not here yet: they lapse a while later.

    At the second of two looks: where the event loop stands still, a timer may be told of it before what came meanwhile
    is read. One timer for all of them costs less than one each.
    """

    def __init__(self) -> None:
        self._seen: list[Permit[Any, Any]] = []
        self._new: list[Permit[Any, Any]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, permit: Permit[Any, Any]) -> None:
        """One more."""
        self._new.append(permit)
        if self._timer is None:
            self._look_later()

    def close(self) -> None:
        """Forget them: what holds a permit holds its batcher, and all that this one runs on."""
        self._seen, self._new = [], []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_ON_ITS_WAY_S / 2, self._look)

    def _look(self) -> None:
        self._timer = None
        for permit in self._seen:
            permit.lapse()
        self._seen, self._new = self._new, []
        if self._seen:
            self._look_later()
