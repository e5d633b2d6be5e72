"""What became of every call of every client, second by second. Knows nothing of why."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from benchmarks.fleet.request import End


class Call:
    """What one client wants: one answer within `patience_s`, by one try or several."""

    __slots__ = ("due", "end", "ended", "tries")

    def __init__(self, due: float) -> None:
        self.due = due
        self.tries = 0
        self.ended = 0.0
        self.end: End | None = None

    @property
    def latency_s(self) -> float:
        """From when it was due to its end, pauses between tries included."""
        return self.ended - self.due


@dataclass(frozen=True)
class Summary:
    """A stretch of time. `goodput_s`: calls due in it that had their answer in time, a second. Shares are of calls."""

    offered_s: float
    goodput_s: float
    p50_ms: float
    p99_ms: float
    refused: float
    failed: float
    tries: float

    @property
    def good(self) -> float:
        """Of those that were due, the share that had an answer in time."""
        return self.goodput_s / self.offered_s if self.offered_s else 1.0


class Ledger:
    """Every call once. A call that ends twice is an error of the simulation."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.calls: list[Call] = []
        self.ends: Counter[End] = Counter()

    def begin(self, due: float) -> Call:
        """A client wants something."""
        call = Call(due)
        self.calls.append(call)
        return call

    def close(self, call: Call, end: End, now: float) -> None:
        """It has its answer, or has given up. Raises RuntimeError at a second end."""
        if call.end is not None:
            raise RuntimeError(f"A call ended as {call.end.name} and again as {end.name}. This is a bug.")
        call.end, call.ended = end, now
        self.ends[end] += 1

    @property
    def open(self) -> int:
        """Calls without an end."""
        return len(self.calls) - sum(self.ends.values())

    def summary(self, start: float, end: float) -> Summary:
        """Of the calls that were due from start to end."""
        inside = [call for call in self.calls if start <= call.due < end]
        good = [call for call in inside if self._is_good(call)]
        count, seconds = max(1, len(inside)), end - start
        times = np.array([call.latency_s for call in inside if call.end is End.ANSWERED]) * 1000
        p50, p99 = (float(one) for one in np.percentile(times, [50, 99])) if times.size else (float("nan"),) * 2
        refused = sum(call.end in (End.REFUSED, End.EXPIRED) for call in inside) / count
        failed = sum(call.end in (End.BROKEN, End.DRAINING, None) for call in inside) / count
        tries = sum(call.tries for call in inside) / count
        return Summary(len(inside) / seconds, len(good) / seconds, p50, p99, refused, failed, tries)

    def by_second(self, until: float) -> tuple[list[int], list[int]]:
        """Calls that were due in each second, and good ones of them."""
        offered, good = [0] * (int(until) + 1), [0] * (int(until) + 1)
        for call in self.calls:
            second = int(call.due)
            if second <= until:
                offered[second] += 1
                good[second] += self._is_good(call)
        return offered, good

    def recovery_s(self, since: float, until: float, share: float = 0.99, steady_s: int = 10) -> float:
        """Seconds from `since` until `share` of the calls of every later `steady_s` seconds are good; inf if never."""
        offered, good = self.by_second(until)
        last_bad = since
        for second in range(int(since), int(until)):
            begin = max(int(since), second - steady_s + 1)
            wanted = sum(offered[begin : second + 1])
            if wanted and sum(good[begin : second + 1]) < share * wanted:
                last_bad = second + 1.0
        return float("inf") if last_bad >= int(until) else last_bad - since

    def _is_good(self, call: Call) -> bool:
        return call.end is End.ANSWERED and call.latency_s <= self.patience_s
