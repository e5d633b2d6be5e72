"""What one input may cost: processor time, memory, and lines on standard error that nobody's logger wrote."""

import os
import resource
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from app.system.allocator import malloc_trim
from tests.fuzzing.targets import Finding
from tests.pace import is_within

MOST_CPU_S = 2.0
MOST_BYTES = 200_000_000
MOST_LEAKED_BYTES = 100_000_000  # between two moments of one process, tens of thousands of inputs apart
_TRIMMED_ABOVE_BYTES = 16_000_000  # freed and not given back, which would count for the next input


class Bounds:
    """A context manager around one check. Raises Finding for what cost too much, once the check has passed."""

    def __init__(self) -> None:
        self._kept = held_bytes()
        self.cpu_s = 0.0
        self.peak_bytes = 0
        self.noise_bytes = 0

    def __enter__(self) -> Self:
        if held_bytes() > self._kept + _TRIMMED_ABOVE_BYTES:
            malloc_trim()
            self._kept = held_bytes()
        self._idle = held_bytes()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        self._noise = _written_to_stderr()
        self._started = time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cpu_s = time.process_time() - self._started
        self.peak_bytes = max(0, _peak() - self._idle)
        self.noise_bytes = _written_to_stderr() - self._noise
        if error is None:
            self._expect_cheap()

    def _expect_cheap(self) -> None:
        if not is_within(self.cpu_s, MOST_CPU_S):
            raise Finding(
                f"It took {self.cpu_s:.1f} s of processor time; expected at most {MOST_CPU_S} on a fast machine."
            )
        if self.peak_bytes > MOST_BYTES:
            raise Finding(f"It took {self.peak_bytes / 1e6:.0f} MB; expected at most {MOST_BYTES / 1e6:.0f}.")
        if self.noise_bytes:
            raise Finding(f"It wrote {self.noise_bytes} bytes to standard error; expected none.")


def held_bytes() -> int:
    """Memory that is resident now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _peak() -> int:
    """Since it was last counted anew."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _written_to_stderr() -> int:
    """0 where standard error is no file."""
    try:
        return os.lseek(2, 0, os.SEEK_CUR)
    except OSError:
        return 0
