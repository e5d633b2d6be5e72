"""Whether a request may be sent again, and when. Knows no clock, no connection, and nothing of other requests."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mixer_client.errors import BadInput

_BUSY = (429, 503)
_FIRST_S, _LONGEST_S = 0.1, 1.0
_SPREAD = 1.25  # of what the service tells


@dataclass(frozen=True)
class Retries:
    """How much may be asked anew.

    max_attempts: how often an image is sent whose connection ends without an answer, as it may be what ends it; 1: no
    request is ever sent again. budget: how many requests may be sent again for each that is sent for the first time,
    over the whole client; so many more than that are the `reserve`. jitter: a number between two, at random.
    """

    max_attempts: int = 4
    budget: float = 0.1
    reserve: int = 10
    jitter: Callable[[float, float], float] = random.uniform

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.budget < 0 or self.reserve < 1:
            raise BadInput(
                f"max_attempts is {self.max_attempts}, budget {self.budget}, reserve {self.reserve}; expected at least "
                "1, 0 and 1."
            )

    def pause_s(self, told: float | None, failures: int) -> float:
        """Seconds to wait: as long as the service told and up to a quarter more, so that not all come at once.

        Where it told nothing, longer after each of `failures` in a row, and a second at most.
        """
        if told is not None:
            return told * self.jitter(1.0, _SPREAD)
        return float(min(_LONGEST_S, _FIRST_S * 2.0 ** min(failures - 1, 8)) * self.jitter(0.5, 1.0))


DEFAULT = Retries()


def is_busy(status: int) -> bool:
    """Whether this status means: not now, come again."""
    return status in _BUSY


def told_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that Retry-After tells, as a number or as a date; None where it tells nothing."""
    told = headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        seconds = float(told)
    except ValueError:
        return _until(told)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(told: str) -> float | None:
    try:
        at = parsedate_to_datetime(told)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
