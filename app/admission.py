"""Who is let in: as many as there is room for, and whom the measured rate can answer in time. Does none of the work.

Whoever is refused is told when to come again. Those times are spread as the service can answer: each refusal promises
a part of a future second, so that all who were refused do not come back at once.
"""

import math

from app.errors import QueueFull
from app.throughput import Throughput

_CERTAIN = 0.8  # of the measured rate: whoever is let in is answered in time, though the rate varies
_PROMISED = 0.5  # of the rate, to those who come again; the rest is for those who come anew
_LONGEST_RETRY_S = 60


class Admission:
    """Counts places. `enough`: so many at once keep everything busy, so that the rate is what can be done at most."""

    def __init__(self, capacity: int, enough: int) -> None:
        self.taken = 0
        self._capacity = capacity
        self._enough = min(enough, capacity)
        self._throughput = Throughput()
        self._promised_until = -math.inf

    def take(self, count: int, now: float, deadline: float = math.inf) -> None:
        """`count` places, all or none, for answers by `deadline`; times in seconds of one clock.

        Raises: QueueFull.
        """
        refusal = self.refusal(count, now, deadline)
        if refusal is not None:
            raise refusal
        self.taken += count
        if self.taken >= self._enough:
            self._throughput.begin(now)

    def refusal(self, count: int, now: float, deadline: float = math.inf, others: int = 0) -> QueueFull | None:
        """Why `take` would refuse, once `others` have taken theirs; None where it would not."""
        taken = self.taken + others
        if taken + count > self._capacity:
            retry_after_s = self._promise(count, now)
            return QueueFull(
                f"{taken} of {self._capacity} places in the queue are taken; expected room for {count}. "
                f"Try again in {retry_after_s} s.",
                retry_after_s,
            )
        rate = self._throughput.surely_per_s(now)
        expected_s = (taken + count) / rate / _CERTAIN if rate else 0.0
        if now + expected_s > deadline and expected_s and (taken or now >= deadline):  # alone, it tries what is true
            retry_after_s = self._promise(count, now)
            return QueueFull(
                f"{taken} pictures are before this one, and an answer takes about {expected_s * 1000:.0f} ms; "
                f"expected one within {max(0.0, deadline - now) * 1000:.0f} ms. Try again in {retry_after_s} s.",
                retry_after_s,
            )
        return None

    def leave(self, now: float) -> None:
        """One place is free again."""
        self.taken -= 1
        if self.taken < self._enough:
            self._throughput.end(now)

    def answered(self, count: int, now: float) -> None:
        """So many answers were given."""
        self._throughput.note(count, now)

    def took(self, seconds: float) -> None:
        """One answer took so long, from its place on: without others, one after the other, it goes as fast as that."""
        if seconds > 0:
            self._throughput.at_least(1 / seconds)

    def _expected_s(self, count: int, now: float) -> float:
        """Seconds in which `count` pictures are answered; 0 where no rate has been measured."""
        rate = self._throughput.per_s(now)
        return count / rate if rate else 0.0

    def _promise(self, count: int, now: float) -> int:
        """Whole seconds, 1 or more, after which there should be room for `count`."""
        room = now + self._expected_s(self.taken, now)
        self._promised_until = max(self._promised_until, room) + self._expected_s(count, now) / _PROMISED
        self._promised_until = min(self._promised_until, now + _LONGEST_RETRY_S)
        return min(_LONGEST_RETRY_S, max(1, math.ceil(self._promised_until - now)))
