"""What the threads of another process burn while its event loop stands still. Knows nothing of workers.

A decoder that keeps the interpreter's lock lets nothing else of its process run, so that the process cannot watch
itself. Linux tells the processor time of its threads to others of the same user; elsewhere there is none.
"""

import os
from collections.abc import Iterable
from pathlib import Path

_AFTER_NAME = 11, 12  # in user mode and in the kernel, of the fields after the name in stat(5)
_STILL_S = 0.75  # without a sign of the event loop


class Stall:
    """One standstill. It counts from when it is first looked at, until it is over."""

    def __init__(self) -> None:
        self._at_first: dict[int, float] = {}

    def over(self) -> None:
        """The event loop goes round; what comes is another standstill."""
        self._at_first.clear()

    def spent_while_still_s(self, silent_s: float, pid: int, native_ids: Iterable[int]) -> float:
        """As spent_s, of a process silent for `silent_s`; one that is so only for a moment does not stand still."""
        if silent_s >= _STILL_S:
            return self.spent_s(pid, native_ids)
        self.over()
        return 0.0

    def spent_s(self, pid: int, native_ids: Iterable[int]) -> float:
        """Processor seconds of the thread that has had most since the first look; 0 where nobody tells."""
        spent = (now - self._at_first.setdefault(one, now) for one in native_ids if (now := _processor_s(pid, one)))
        return max(spent, default=0.0)


def _processor_s(pid: int, native_id: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/task/{native_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended, or the system has no such files
        return 0.0
    return sum(int(fields[at]) for at in _AFTER_NAME) / os.sysconf("SC_CLK_TCK")
