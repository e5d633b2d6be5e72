"""How fast answers come when there is more work than can be done. Knows nothing of what is answered."""

import math
from collections import deque

_WINDOW_S = 5.0
_EVIDENCE_S = 0.1  # a shorter time says little
_MOMENT_S = 0.5
_ENOUGH = 32  # answers in a moment: of fewer, chance makes too much


class Throughput:
    """Answers a second over the last few seconds of saturation. What was measured last holds until something better."""

    def __init__(self) -> None:
        self.is_known = False  # or may be
        self._since: float | None = None
        self._measured = 0.0
        self._finished: deque[tuple[float, int]] = deque()
        self._answers = 0  # the sum of those: it is asked for with every request
        self._moments: deque[int] = deque(maxlen=int(_WINDOW_S / _MOMENT_S))  # answers in each that is over
        self._worst = math.inf  # of those
        self._moment_ends, self._in_moment = 0.0, 0

    def begin(self, now: float) -> None:
        """From now on there is more work than can be done; times in seconds."""
        if self._since is None:
            self.is_known = True
            self._since = now
            self._finished.clear()
            self._answers = 0
            self._moments.clear()
            self._worst = math.inf
            self._moment_ends, self._in_moment = now + _MOMENT_S, 0

    def end(self, now: float) -> None:
        """There no longer is."""
        if self._since is not None:
            self._measured = self.per_s(now)
            self._since = None

    def note(self, count: int, now: float) -> None:
        """`count` answers were given."""
        if self._since is None:
            return
        while now >= self._moment_ends:
            self._moments.append(self._in_moment)
            self._worst = min(self._moments) / _MOMENT_S
            self._moment_ends, self._in_moment = self._moment_ends + _MOMENT_S, 0
        self._in_moment += count
        self._finished.append((now, count))
        self._answers += count
        self._forget(now - _WINDOW_S)

    def raise_to(self, per_s: float) -> None:
        """`per_s` was reached without full load: a lower rate, measured in a bad moment, no longer holds."""
        if self._since is None and 0 < self._measured < per_s:
            self._measured = per_s

    def per_s(self, now: float) -> float:
        """0 where nothing has been measured yet."""
        if self._since is None or now - self._since < _EVIDENCE_S:
            return self._measured
        self._forget(now - _WINDOW_S)
        return self._answers / min(now - self._since, _WINDOW_S) if self._answers else self._measured

    def lower_bound_per_s(self, now: float) -> float:
        """What was reached in the worst half second of late, too; as per_s where that is too short to tell."""
        if self._since is None:
            return self._measured
        per_s = self.per_s(now)
        if per_s * _MOMENT_S < _ENOUGH:
            return per_s
        return min(per_s, max(self._worst, _ENOUGH / _MOMENT_S))

    def _forget(self, before: float) -> None:
        while self._finished and self._finished[0][0] < before:
            self._answers -= self._finished.popleft()[1]
