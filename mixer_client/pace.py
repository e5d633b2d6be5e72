"""How many requests of one client may be under way, and when none may. Knows neither HTTP nor threads.

One for all requests of a client, which calls it from one thread at a time. Three things hold them back:

- A pause. Once the service has refused a request, none is sent until the time that it told has passed; then one goes
  first, and the others follow as it and they are answered.
- A window, as TCP's. It grows by one with each answer up to the half of what was under way when the service last
  refused, and above that by one in ten pauses' time.
- A budget. A request that is sent again costs a token; each that is sent for the first time brings a part of one. There
  are never more under way than there are tokens, so that all of them may be refused, and none is lost.
"""

import copy
import math

from mixer_client.errors import MixerError, TimedOut
from mixer_client.retries import Retries

_START = 4  # under way before the first answer
_MOST = 100  # under way, and tokens
_HOLD = 10  # pauses


class Pace:
    """Times are in seconds of one clock."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._under_way = 0
        self._window = float(min(_START, retries.reserve))
        self._threshold = math.inf
        self._grows_at = -math.inf
        self._hold_s = 0.0
        self._tokens = float(retries.reserve)
        self._failures = 0  # in a row
        self._paused_until = -math.inf
        self._reason: MixerError | None = None

    def enter(self, now: float, deadline: float) -> float:
        """0 where one more is under way now; else the seconds after which to ask again, or earlier if one leaves.

        Raises: what the service said, where the pause ends after the deadline; TimedOut.
        """
        if now < self._paused_until:
            if self._reason is not None and self._paused_until >= deadline:
                raise copy.copy(self._reason)
            return self._paused_until - now
        if self._under_way < self.room():
            self._under_way += 1
            return 0.0
        if now >= deadline:
            raise TimedOut(f"{self._under_way} requests of this client are under way; expected room for one in time.")
        return deadline - now

    def room(self) -> int:
        """How many may be under way."""
        return max(1, math.floor(min(self._window, self._tokens, _MOST)))

    def has_room(self) -> bool:
        """Whether one that waits may ask again."""
        return self._under_way < self.room()

    def leave(self) -> None:
        """One less is under way."""
        self._under_way -= 1

    def begin(self) -> None:
        """A request that was not sent before."""
        self._tokens = min(_MOST, self._tokens + self._retries.budget)

    def answered(self, now: float) -> None:
        """The service has answered one, be it with an error about this one."""
        if now < self._paused_until:
            return
        self._failures = 0
        if self._window < self._threshold:
            self._window += 1
        elif now >= self._grows_at:
            self._window += 1
            self._threshold = self._window
            self._grows_at = now + self._hold_s
        self._window = min(self._window, _MOST)

    def refused(self, now: float, told: float | None, reason: MixerError) -> float:
        """The service has no room, or is not there: pause. Returns the seconds until one may be sent again."""
        if now >= self._paused_until:  # those that were sent before the pause began say nothing new
            self._failures += 1
            self._threshold = max(1.0, min(self._window, self._under_way + 1) // 2)
            self._window = 1.0
        wait_s = self._retries.pause_s(told, self._failures)
        if now + wait_s > self._paused_until:
            self._paused_until, self._reason = now + wait_s, reason
        self._hold_s = _HOLD * wait_s
        self._grows_at = self._paused_until + self._hold_s
        return self._paused_until - now

    def spend(self) -> bool:
        """Take a token, to send a request again. Returns whether there was one."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
