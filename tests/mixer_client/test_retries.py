"""Whether and when a request may be sent again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mixer_client.errors import BadInput
from mixer_client.retries import Retries, is_busy, told_s

LEAST = Retries(jitter=lambda low, high: low)
MOST = Retries(jitter=lambda low, high: high)


def test_only_two_statuses_mean_come_again() -> None:
    assert [status for status in range(200, 600) if is_busy(status)] == [429, 503]


def test_what_the_service_tells_is_waited_for_and_up_to_a_quarter_more() -> None:
    assert (LEAST.pause_s(4.0, 1), MOST.pause_s(4.0, 9)) == (4.0, 5.0)


def test_where_it_tells_nothing_each_pause_is_twice_the_one_before_up_to_a_second() -> None:
    assert [MOST.pause_s(None, failures) for failures in (1, 2, 3, 4, 5, 10_000)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert LEAST.pause_s(None, 2) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("told", "seconds"), [("7", 7.0), (" 0.5 ", 0.5), ("-3", 0.0), ("", None), ("soon", None), ("nan", None)]
)
def test_retry_after_is_read_as_a_number(told: str, seconds: float | None) -> None:
    assert told_s({"retry-after": told}) == seconds


def test_retry_after_may_be_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=100)
    found = told_s({"retry-after": format_datetime(later, usegmt=True)})
    assert found is not None
    assert 90 < found <= 100
    assert told_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert told_s({"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}) is None


def test_no_header_tells_nothing() -> None:
    assert told_s({}) is None


@pytest.mark.parametrize("impossible", [{"max_attempts": 0}, {"budget": -0.1}, {"reserve": 0}])
def test_what_cannot_be_is_refused(impossible: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="expected at least 1, 0 and 1"):
        Retries(**impossible)
