"""How many bytes of request bodies the service holds, from their first byte to their answer. Knows nothing of HTTP."""

from collections.abc import Callable
from types import TracebackType

from app.errors import UploadsFull
from app.system.quota import Quota

_RETRY_AFTER_S = 1  # an answer takes less, and with it a body goes


class UploadBudget:
    """Room, in bytes, for the bodies of all requests together. `on_refusal` is called for each that finds none."""

    def __init__(self, room: Quota, on_refusal: Callable[[], object]) -> None:
        self.room = room
        self._on_refusal = on_refusal

    def full(self, count: int) -> UploadsFull:
        """Why there is no room for `count` bytes."""
        self._on_refusal()
        held, most = self.room.taken, self.room.limit
        held = max(held, most - count + 1)  # as it was when there was no room: some may have gone since
        return UploadsFull(
            f"The service holds {held} of {most} bytes of uploads; expected room for {count}. "
            f"Try again in {_RETRY_AFTER_S} s.",
            _RETRY_AFTER_S,
        )


class BodyReservation:
    """What the body of one request takes of the budget, until the end of a with statement."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: UploadBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def expect_room(self, count: int) -> None:
        """Check for room for a body of `count` bytes, none of which has come. Raises UploadsFull."""
        room = self._budget.room
        if room.taken + count > room.limit:
            raise self._budget.full(count)

    def add(self, count: int) -> None:
        """`count` bytes have come. Raises UploadsFull."""
        if count:
            if not self._budget.room.try_take(count):
                raise self._budget.full(count)
            self._bytes += count

    def try_add(self, count: int) -> bool:
        """The same, for one who would wait: whether there was room."""
        if not self._budget.room.try_take(count):
            return False
        self._bytes += count
        return True

    def release(self) -> None:
        """Give all of it back."""
        self._budget.room.give(self._bytes)
        self._bytes = 0

    def __enter__(self) -> "BodyReservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._budget.room.give(self._bytes)
