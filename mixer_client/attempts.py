"""One call on its way, sent once or several times. Sends nothing itself and waits for nothing: its driver does.

    while the answer is not there:
        wait until `turn_s` is 0, send the request, and tell how it ended: `answered`, `failed` or `gave_up`

Everything that is asked here changes nothing in the service, so that it may be asked again, also where a connection
ended after the request was sent.
"""

import math
import ssl
from collections.abc import Callable

import httpx

from mixer_client.errors import BadAnswer, ConnectFailed, MixerError, TimedOut
from mixer_client.pace import Pace
from mixer_client.parsing import error_of
from mixer_client.retries import Retries, is_busy

_FAILED = 400
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_ENDED = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)


class Attempts:
    """timeout_s: from now until the answer; where `is_patient`, from when it may first be sent.

    is_wanted: whether anybody still waits for the answer.
    """

    def __init__(
        self,
        pace: Pace,
        retries: Retries,
        clock: Callable[[], float],
        timeout_s: float,
        *,
        is_patient: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pace, self._retries, self._clock = pace, retries, clock
        self._timeout_s, self._is_wanted = timeout_s, is_wanted
        self._deadline = math.inf if is_patient else clock() + timeout_s
        self._ended = 0  # connections, after it was sent
        self._has_begun = False

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, and never none."""
        return max(0.001, self._deadline - self._clock())

    def turn_s(self) -> float:
        """0: send it now. Else: ask again after so many seconds, or when another call of the client has ended.

        Raises: TimedOut, or what the service said last, where it would be too late then.
        """
        if not self._is_wanted():
            raise TimedOut("Nobody waits for the answer any more.")
        now = self._clock()
        wait_s = self._pace.enter(now, self._deadline)
        if wait_s == 0 and not self._has_begun:
            self._has_begun = True
            self._pace.begin()
            self._deadline = min(self._deadline, now + self._timeout_s)
        return wait_s

    def answered(self, answer: httpx.Response) -> httpx.Response | None:
        """An answer to hand on; None where the request is to be sent again. Raises ServiceError."""
        self._pace.leave()
        if answer.status_code < _FAILED:
            self._pace.answered(self._clock())
            return answer
        error = error_of(answer)
        if not is_busy(error.status):
            self._pace.answered(self._clock())
            raise error
        self._pause(error.retry_after_s, error, is_paid=True)
        return None

    def failed(self, error: httpx.RequestError, address: str) -> None:
        """The connection failed. Raises BadAnswer, ConnectFailed or TimedOut where it is not to be sent again."""
        self._pace.leave()
        if isinstance(error, httpx.DecodingError):
            self._pace.answered(self._clock())
            raise BadAnswer(f"{address} gives an answer whose compression is broken: {error}") from error
        was_sent = not isinstance(error, _NEVER_SENT)
        self._ended += was_sent
        if isinstance(error, httpx.TimeoutException):
            raise TimedOut(f"{address} gave no answer within {self._timeout_s:g} s.") from error
        failure = ConnectFailed(f"{address} does not answer: {error or type(error).__name__}")
        if not isinstance(error, _ENDED) or _is_about_tls(error):
            raise failure from error
        failure.__cause__ = error
        self._pause(None, failure, is_paid=was_sent)

    def gave_up(self) -> None:
        """Nobody waits for the answer any more."""
        self._pace.leave()

    def timed_out(self, address: str) -> TimedOut:
        """The error where the driver's own clock has ended it."""
        return TimedOut(f"{address} gave no answer within {self._timeout_s:g} s.")

    def _pause(self, told: float | None, error: MixerError, *, is_paid: bool) -> None:
        now = self._clock()
        wait_s = self._pace.refused(now, told, error)
        is_last = self._ended >= self._retries.max_attempts or self._retries.max_attempts == 1
        if is_last or now + wait_s >= self._deadline or (is_paid and not self._pace.spend()):
            raise error


def _is_about_tls(error: BaseException) -> bool:
    """Whether the two sides disagree, as about a certificate. A connection that ends is none of that."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLError):
            return not isinstance(link, ssl.SSLEOFError | ssl.SSLZeroReturnError)
        link = link.__cause__ or link.__context__
    return False
