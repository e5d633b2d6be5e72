"""One limit that all processes of the service keep together, without a lock between them.

Each process has a number of its own in shared memory. Who wants some adds to its own number first, then reads the sum
of all, and takes its addition back where that is over the limit. So the limit is never exceeded. Two that come within
the same microsecond may both be refused, where one of them would have fitted. Knows nothing of what is counted.
"""

import threading


class Quota:
    """At most `limit` at once. `shares`: a number for each process, of which this one writes that at `own` alone.

    Without `shares` one process has all of it.
    """

    def __init__(self, limit: int, shares: "memoryview[float] | None" = None, own: int = 0) -> None:
        self.limit = limit
        self._shares = memoryview(bytearray(8)).cast("d") if shares is None else shares
        self._own = own
        self._lock = threading.Lock()

    @property
    def processes(self) -> int:
        """How many share it."""
        return len(self._shares)

    @property
    def taken(self) -> int:
        """What all processes hold; for a moment more than the limit, until one that asks for too many has seen that."""
        return int(sum(self._shares))

    def try_take(self, count: int) -> bool:
        """Whether there was room for `count`, all or none, which are taken now."""
        with self._lock:
            self._shares[self._own] += count
        # A processor may read what others wrote before they see its own, unless a lock is released and taken between.
        with self._lock:
            if sum(self._shares) <= self.limit:
                return True
            self._shares[self._own] -= count
        return False

    def give(self, count: int) -> None:
        """Give back `count` of those taken."""
        with self._lock:
            self._shares[self._own] -= count
