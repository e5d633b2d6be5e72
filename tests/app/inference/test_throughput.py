"""How fast answers come, measured while there is more work than can be done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.inference.throughput import Throughput


def test_nothing_measured_is_no_rate() -> None:
    throughput = Throughput()
    assert throughput.per_s(100.0) == 0.0
    throughput.end(100.0)
    throughput.begin(101.0)
    assert throughput.per_s(200.0) == 0.0


@pytest.mark.parametrize(("now", "rate"), [(4.0, 10 / 4), (5.0, 2.0), (6.0, 2.0), (8.0, 1.2)])
def test_the_rate_counts_the_last_five_seconds_at_most(now: float, rate: float) -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    throughput.note(4, 2.0)
    throughput.note(6, 4.0)
    assert throughput.per_s(now) == pytest.approx(rate)


def test_what_was_measured_last_holds_until_the_next() -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    throughput.note(30, 1.0)
    throughput.end(2.0)
    assert throughput.per_s(2.0) == throughput.per_s(1000.0) == 15.0
    throughput.begin(1000.0)
    assert throughput.per_s(1003.0) == 15.0  # no answer so far says nothing of how fast they come
    throughput.note(12, 1004.0)
    assert throughput.per_s(1004.0) == 3.0


def test_answers_while_there_is_not_enough_to_do_say_nothing() -> None:
    throughput = Throughput()
    throughput.note(1, 0.0)
    throughput.begin(10.0)
    throughput.note(4, 12.0)
    throughput.end(12.0)
    throughput.note(1, 13.0)
    throughput.begin(100.0)
    throughput.note(1, 101.0)
    assert throughput.per_s(101.0) == 1.0  # neither the idle time nor what was answered in it


def test_a_moment_is_no_evidence() -> None:
    throughput = Throughput()
    throughput.begin(7.0)
    throughput.note(3, 7.0)
    assert throughput.per_s(7.0) == 0.0
    throughput.end(7.05)
    assert throughput.per_s(8.0) == 0.0


def test_beginning_again_meanwhile_changes_nothing() -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    throughput.note(4, 1.0)
    throughput.begin(1.5)
    assert throughput.per_s(2.0) == 2.0


def test_what_is_sure_is_the_worst_half_second_of_the_last_five() -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    for tick in range(1, 1000):  # 10 ms each: 100 a second, and 70 for half of one
        throughput.note(0 if 300 <= tick < 350 and tick % 10 < 3 else 1, tick / 100)
    slow = throughput.lower_bound_per_s(10.0)
    assert throughput.per_s(10.0) == pytest.approx(100, rel=0.01)
    assert slow == pytest.approx(100, rel=0.03)  # that was seven seconds ago
    throughput.end(10.0)
    throughput.begin(20.0)
    for tick in range(1, 401):
        throughput.note(0 if 300 <= tick < 350 and tick % 10 < 3 else 1, 20 + tick / 100)
    assert throughput.lower_bound_per_s(24.0) == pytest.approx(70, rel=0.03)
    assert throughput.per_s(24.0) > 95
    throughput.end(24.0)
    assert throughput.lower_bound_per_s(24.0) == throughput.per_s(24.0)  # it is no longer measured


def test_of_few_answers_half_a_second_tells_nothing() -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    for second in range(1, 5):
        throughput.note(20, second + 0.01)
    assert throughput.lower_bound_per_s(4.5) == throughput.per_s(4.5) > 0


def test_a_moment_of_nothing_counts_as_the_least_that_tells() -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    for tick in range(1, 200):
        throughput.note(0 if 100 <= tick < 150 else 3, tick / 100)
    assert throughput.lower_bound_per_s(2.0) == 64


def test_what_is_older_is_forgotten() -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    for second in range(1000):
        throughput.note(1, float(second))
    assert len(throughput._finished) == 6


@given(st.integers(1, 1000), st.integers(1, 100), st.integers(1, 200))
def test_a_steady_rate_is_measured_as_it_is(per_answer_ms: int, count: int, answers: int) -> None:
    throughput = Throughput()
    throughput.begin(0.0)
    now = 0.0
    for number in range(1, answers + 1):
        now = number * per_answer_ms / 1000
        throughput.note(count, now)
    measured = throughput.per_s(now)
    if now < 0.1:
        assert measured == 0.0
    else:  # at the edge of the window one answer counts or does not
        seen = min(answers, 5000 // per_answer_ms)
        assert measured == pytest.approx(count * 1000 / per_answer_ms, rel=1.01 / seen)


def test_an_answer_that_was_faster_than_what_was_measured_shows_that_it_no_longer_holds() -> None:
    throughput = Throughput()
    throughput.raise_to(100.0)
    assert throughput.per_s(0.0) == 0.0  # the least that is possible is no measure of what is
    throughput.begin(0.0)
    throughput.note(1, 4.0)
    throughput.raise_to(100.0)
    assert throughput.per_s(4.0) == 0.25  # while there is more than can be done, answers are counted
    throughput.end(4.0)
    throughput.raise_to(0.2)
    assert throughput.per_s(9.0) == 0.25
    throughput.raise_to(100.0)
    assert throughput.per_s(9.0) == 100.0
