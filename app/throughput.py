"""How fast answers come, measured while there is work. Knows nothing of what is answered."""

from collections import deque

_WINDOW_S = 5.0


class Throughput:
    """Answers a second over the last few busy seconds."""

    def __init__(self) -> None:
        self._busy_since = 0.0
        self._finished: deque[tuple[float, int]] = deque()

    def restart(self, now: float) -> None:
        """The batcher was idle until now; idle time says nothing about its speed."""
        self._busy_since = now
        self._finished.clear()

    def note(self, count: int, now: float) -> None:
        """`count` answers were given at `now`, in seconds."""
        self._finished.append((now, count))
        while self._finished[0][0] < now - _WINDOW_S:
            self._finished.popleft()

    def per_s(self, now: float) -> float:
        """0 where nothing has been measured yet."""
        since = max(self._busy_since, now - _WINDOW_S)
        return sum(count for at, count in self._finished if at >= since) / max(now - since, 1e-3)
