"""What starts of workers tell: how long one may take, when to try again, what to say of it, and when nobody can start.

Knows nothing of processes.
"""

import math
import signal
from dataclasses import dataclass
from typing import NamedTuple

from app.errors import StartError

_LONGEST_PAUSE_S = 30.0
_MOST_DOUBLINGS = 20
_START_S = 900.0  # for the first heartbeat: a large model comes from a slow disk, TensorRT builds an engine
_START_TIMEOUTS = 20  # where `heartbeat_timeout_s` is so long that this is more
_START_AGAIN_S, _TIMES_AS_LONG = 120.0, 20  # once it is known how long a start takes
_LATE_S, _TIMES_LATE = 10.0, 4  # and when it is to be said that one takes longer
_SURE = 3  # ends in a row that are no accident
ONCE, TWICE, OFTEN = 1, 2, 5  # of a kind that nobody can start after: its own words, a start that hangs, anything else


class WorkerFailed(StartError):
    """A worker could not start; the words are its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # of the class, in all others


class End(NamedTuple):
    """How a worker ended. `worked_s`: for how long it had worked, None where it had not begun to.

    `how`: in words, after "It". `times`: how many in a row mean that it cannot start.
    """

    worked_s: float | None
    how: str
    exit_code: int
    times: int


@dataclass
class _Attempts:
    failures: int = 0
    alike: int = 0  # the last of them, of one kind
    times: int = 0  # their kind
    words: str = ""
    exit_code: int = 1
    is_lost: bool = False


class Restarts:
    """Attempts to start `count` workers. The pause before another attempt doubles from `pause_s` up to half a minute.

    One that has worked for `young_s` is replaced at once, and what was before it does not count.
    """

    def __init__(self, count: int, *, pause_s: float, young_s: float) -> None:
        self._attempts = [_Attempts() for _ in range(count)]
        self._pause_s = pause_s
        self._young_s = young_s

    def ended(self, number: int, end: End) -> float:
        """Note it. Returns: seconds before it is replaced."""
        if end.worked_s is not None and end.worked_s >= self._young_s:
            self._attempts[number] = _Attempts()
            return 0.0
        attempts = self._attempts[number]
        attempts.failures += 1
        attempts.alike = attempts.alike + 1 if end.times == attempts.times else 1
        attempts.times, attempts.exit_code = end.times, end.exit_code
        attempts.is_lost = attempts.alike >= end.times
        if attempts.alike >= min(end.times, _SURE):
            often = f", {attempts.alike} times in a row" if attempts.alike > 1 else ""
            attempts.words = f"It {end.how}{often}."
        doubled = 1 << min(attempts.failures - 1, _MOST_DOUBLINGS)
        return min(self._pause_s * doubled, max(self._pause_s, _LONGEST_PAUSE_S))

    def words(self, number: int) -> str:
        """Why it does not start again; nothing where that is not sure."""
        return self._attempts[number].words

    def are_all_lost(self) -> bool:
        """Whether each has failed as often as it takes."""
        return all(attempts.is_lost for attempts in self._attempts)

    def exit_code(self, number: int) -> int:
        """What is to become of the service where this one was the last."""
        return self._attempts[number].exit_code


class Starts:
    """How long they take. `heartbeat_timeout_s`: how long a worker that has started may be silent."""

    def __init__(self, heartbeat_timeout_s: float) -> None:
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._longest_s: float | None = None

    def took(self, seconds: float) -> None:
        """A worker has started within `seconds`."""
        self._longest_s = max(self._longest_s or 0.0, seconds)

    def limit_s(self) -> float:
        """How long one may take."""
        limit_s = max(_START_S, _START_TIMEOUTS * self._heartbeat_timeout_s)
        if self._longest_s is None:
            return limit_s
        return min(limit_s, max(_START_AGAIN_S, _TIMES_AS_LONG * self._longest_s))

    def late_s(self) -> float:
        """How long one may take before it is said that it does; infinite where nothing is known of others."""
        return math.inf if self._longest_s is None else max(_LATE_S, _TIMES_LATE * self._longest_s)


def how_it_ended(code: int) -> str:
    """How a process ended, in words after "It"."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def end_of(code: int, words: str, worked_s: float | None, *, was_killed: bool) -> End:
    """What the end of a process tells that left these `words`. `was_killed`: by its supervisor."""
    how = how_it_ended(code)
    if worked_s is not None:
        return End(worked_s, f"{how} soon after its start", abs(code), OFTEN)
    if code > 0 and words:
        return End(None, f"cannot start again: {words.rstrip('.')}", code, ONCE)
    times = TWICE if was_killed else ONCE if code > 0 else OFTEN
    return End(None, f"{how} while it started", abs(code), times)
