"""What failed starts of workers tell: when to try again, what to say of it, and when nobody can start any more.

Knows nothing of processes.
"""

from dataclasses import dataclass
from typing import NamedTuple

_LONGEST_PAUSE_S = 30.0
_MOST_DOUBLINGS = 20
_SURE = 3  # ends in a row that are no accident
ONCE, TWICE, OFTEN = 1, 2, 5  # of a kind that nobody can start after: its own words, a start that hangs, anything else


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
    """Of `count` workers. The pause before another attempt doubles from `pause_s` up to half a minute.

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
