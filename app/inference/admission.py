"""Who is let in: as many as there is room for, and whom the measured rate can answer in time. Does none of the work.

The room is that of the whole service, the rate that of one model in this process.

A client that is refused is told when to come again. Those times are spread as the service can answer: each refusal
reserves a part of a future second, so that not all come back at once.
"""

import math
from dataclasses import dataclass

from app.errors import QueueFull
from app.inference.throughput import Throughput
from app.system.quota import Quota

_CERTAIN = 0.8  # of the measured rate: what is let in is answered in time, though the rate varies
_PROMISED = 0.5  # of the rate, to those who come again; the rest is for those who come anew
_LONGEST_RETRY_S = 60
_BACKGROUND_RETRY_S = 1  # it reserves no part of a future second: whoever wants labels is to have them all


@dataclass(frozen=True)
class Limits:
    """instances: batches in flight at once. queue_capacity: permits. max_wait_s: how long a first item waits."""

    instances: int = 1
    max_batch_size: int = 32
    max_wait_s: float = 0.0
    queue_capacity: int = 512


def most_in_background(permits: int) -> int:
    """How many of so many permits may be for work in the background."""
    return max(1, permits // 2)


class Admission:
    """Counts the permits that are `taken` here, of those that others may take, too, and those whose items are `here`.

    `inside`: all of them, those for work in the background, too, which everything else goes before: nobody waits for
    it, and it says nothing of the rate. `background`: how many may be for that, which others may take, too; else half.

    `enough`: so many items at once keep everything busy, so that the rate is what can be done at most. Where a
    process's part of the permits is less, that many do.
    """

    def __init__(self, permits: Quota, enough: int, background: Quota | None = None) -> None:
        self.taken = self.here = self.inside = 0
        self._permits = permits
        self._background = background or Quota(most_in_background(permits.limit))
        self._enough = min(enough, math.ceil(permits.limit / permits.processes))
        self._throughput = Throughput()
        self.answered = self._throughput.note  # (count, now): so many answers were given
        self._reserved_until = -math.inf

    def take(self, count: int, now: float, deadline: float = math.inf, *, here: bool = True) -> None:
        """Take `count` permits, all or none, for answers by `deadline`; times in seconds of one clock.

        `here`: whether their items are. Raises: QueueFull.
        """
        if not self._permits.try_take(count):
            raise self._full(count, now)
        if self._throughput.is_known and (late := self._late(count, now, deadline)) is not None:
            self._permits.give(count)
            raise late
        self.taken += count
        self.inside += count
        if here:
            self.arrive(count, now)

    def take_in_background(self, count: int, items: int, now: float, deadline: float) -> None:
        """Take `count` permits, all or none, under which `items` are run one after the other, by `deadline`.

        Raises: QueueFull.
        """
        if not self._background.try_take(count):
            raise self._busy(self._background, count)
        if not self._permits.try_take(count):
            self._background.give(count)
            raise self._busy(self._permits, count)
        rate = self._throughput.lower_bound_per_s(now) if self._throughput.is_known else 0.0
        if rate and now + (self.inside + items) / rate / _CERTAIN > deadline:
            self._permits.give(count)
            self._background.give(count)
            raise QueueFull(
                f"{self.inside} pictures are before these {items} runs, which take about "
                f"{(self.inside + items) / rate / _CERTAIN * 1000:.0f} ms with them; expected an answer within "
                f"{max(0.0, deadline - now) * 1000:.0f} ms. Try again in {_BACKGROUND_RETRY_S} s.",
                _BACKGROUND_RETRY_S,
            )
        self.inside += count

    def release_in_background(self, count: int) -> None:
        """So many of those are free again."""
        self._permits.give(count)
        self._background.give(count)
        self.inside -= count

    def arrive(self, count: int, now: float) -> None:
        """The items of `count` permits are here."""
        self.here += count
        if self.here >= self._enough:
            self._throughput.begin(now)

    def release(self, now: float, *, here: bool = True) -> None:
        """One permit is free again. `here`: whether its item was."""
        self._permits.give(1)
        self.taken -= 1
        self.inside -= 1
        if here:
            self.here -= 1
            if self.here == self._enough - 1:
                self._throughput.end(now)

    def took(self, seconds: float) -> None:
        """One answer took so long, from its permit on: without others, one after the other, it goes as fast as that."""
        if seconds > 0 and self._throughput.is_known:
            self._throughput.raise_to(1 / seconds)

    def _busy(self, places: Quota, count: int) -> QueueFull:
        """Why there is no room for `count` in the background."""
        taken = max(places.taken, places.limit - count + 1)
        whose = " that explanations and streams may have" if places is self._background else ""
        return QueueFull(
            f"{taken} of {places.limit} places in the queue{whose} are taken; expected room for {count}. "
            f"Try again in {_BACKGROUND_RETRY_S} s.",
            _BACKGROUND_RETRY_S,
        )

    def _full(self, count: int, now: float) -> QueueFull:
        capacity, retry_after_s = self._permits.limit, self._reserve_retry_slot(count, now)
        taken = max(self._permits.taken, capacity - count + 1)  # as it was: some may have left since
        return QueueFull(
            f"{taken} of {capacity} places in the queue are taken; expected room for {count}. "
            f"Try again in {retry_after_s} s.",
            retry_after_s,
        )

    def _late(self, count: int, now: float, deadline: float) -> QueueFull | None:
        """Why `count` items behind those with permits here are not answered by `deadline`, if so."""
        rate, taken = self._throughput.lower_bound_per_s(now), self.taken
        expected_s = (taken + count) / rate / _CERTAIN if rate else 0.0
        if now + expected_s > deadline and expected_s and (taken or now >= deadline):  # alone, it tries what is true
            retry_after_s = self._reserve_retry_slot(count, now)
            return QueueFull(
                f"{taken} pictures are before this one, and an answer takes about {expected_s * 1000:.0f} ms; "
                f"expected one within {max(0.0, deadline - now) * 1000:.0f} ms. Try again in {retry_after_s} s.",
                retry_after_s,
            )
        return None

    def _expected_s(self, count: int, now: float) -> float:
        """Seconds in which `count` pictures are answered; 0 where no rate has been measured."""
        rate = self._throughput.per_s(now)
        return count / rate if rate else 0.0

    def _reserve_retry_slot(self, count: int, now: float) -> int:
        """The whole seconds, 1 or more, after which there should be room for `count`."""
        room = now + self._expected_s(self.taken, now)
        self._reserved_until = max(self._reserved_until, room) + self._expected_s(count, now) / _PROMISED
        self._reserved_until = min(self._reserved_until, now + _LONGEST_RETRY_S)
        return min(_LONGEST_RETRY_S, max(1, math.ceil(self._reserved_until - now)))
