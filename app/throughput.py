"""How fast answers come when there is more work than can be done. Knows nothing of what is answered."""

from collections import deque

_WINDOW_S = 5.0
_EVIDENCE_S = 0.1  # a shorter time says little


class Throughput:
    """Answers a second over the last few seconds of saturation. What was measured last holds until the next."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._measured = 0.0
        self._finished: deque[tuple[float, int]] = deque()

    def begin(self, now: float) -> None:
        """From now on there is more work than can be done; times in seconds."""
        if self._since is None:
            self._since = now
            self._finished.clear()

    def end(self, now: float) -> None:
        """There no longer is."""
        if self._since is not None:
            self._measured = self.per_s(now)
            self._since = None

    def note(self, count: int, now: float) -> None:
        """`count` answers were given."""
        if self._since is None:
            return
        self._finished.append((now, count))
        while self._finished[0][0] < now - _WINDOW_S:
            self._finished.popleft()

    def per_s(self, now: float) -> float:
        """0 where nothing has been measured yet."""
        if self._since is None or now - self._since < _EVIDENCE_S:
            return self._measured
        since = max(self._since, now - _WINDOW_S)
        answers = sum(count for at, count in self._finished if at >= since)
        return answers / (now - since) if answers else self._measured
