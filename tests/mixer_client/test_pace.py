"""How many requests of a client may be under way, and when none may."""

import math

import pytest

from mixer_client.errors import QueueFull, TimedOut
from mixer_client.pace import Pace
from mixer_client.retries import Retries

FULL = QueueFull("queue_full", 429, "No room.", "id", 1.0)


def pace(**changes: float) -> Pace:
    return Pace(Retries(jitter=lambda low, high: low, **changes))  # type: ignore[arg-type]


def fill(pace: Pace, now: float = 0.0) -> int:
    """Let in as many as have room; returns how many that were."""
    count = 0
    while pace.has_room():
        assert pace.enter(now, math.inf) == 0
        count += 1
    return count


def answer(pace: Pace, count: int, now: float = 0.0) -> None:
    """So many new requests, one after the other."""
    for _ in range(count):
        assert pace.enter(now, math.inf) == 0
        pace.begin()
        pace.leave()
        pace.answered(now)


def test_four_may_be_under_way_before_the_first_answer() -> None:
    assert fill(pace()) == 4


def test_each_answer_makes_room_for_one_more_as_long_as_there_are_tokens() -> None:
    found = pace()
    answer(found, 3)
    assert found.room() == 7
    answer(found, 100)
    assert found.room() == 20  # 10 tokens, and a tenth for each of 103


def test_never_are_there_more_than_a_hundred() -> None:
    found = pace(reserve=1000)
    answer(found, 5000)
    assert found.room() == 100


def test_without_room_it_waits_for_one_to_leave_until_its_deadline() -> None:
    found = pace()
    fill(found)
    assert found.enter(0.0, 7.0) == 7.0
    found.leave()
    assert found.enter(0.0, 7.0) == 0.0
    with pytest.raises(TimedOut, match="4 requests of this client are under way"):
        found.enter(7.0, 7.0)


def test_after_a_refusal_none_may_go_until_the_time_that_was_told() -> None:
    found = pace()
    found.enter(0.0, math.inf)
    found.leave()
    assert found.refused(0.0, 5.0, FULL) == 5.0
    assert found.enter(1.0, math.inf) == 4.0


def test_whose_deadline_is_before_that_is_told_at_once_what_the_service_said() -> None:
    found = pace()
    found.refused(0.0, 5.0, FULL)
    with pytest.raises(QueueFull) as raised:
        found.enter(1.0, 5.0)
    assert raised.value is not FULL  # its traceback is of one call
    assert raised.value.args == FULL.args
    assert found.enter(1.0, 5.1) == 4.0


def test_then_one_goes_first_and_each_answer_lets_one_more_go() -> None:
    found = pace()
    answer(found, 25)
    under_way = fill(found)
    assert under_way == 12
    for _ in range(under_way):
        found.leave()
        found.refused(0.0, 1.0, FULL)
    assert found.room() == 1
    rooms = []
    for _ in range(8):
        answer(found, 1, 1.0)
        rooms.append(found.room())
    assert rooms == [2, 3, 4, 5, 6, 6, 6, 6]  # half of what was under way


def test_above_that_it_grows_by_one_in_ten_pauses() -> None:
    found = pace()
    answer(found, 25)
    fill(found)
    found.leave()
    found.refused(0.0, 2.0, FULL)
    for _ in range(11):
        found.leave()
    answer(found, 30, 2.0)
    assert found.room() == 6
    answer(found, 30, 21.9)
    assert found.room() == 6
    answer(found, 30, 22.0)
    assert found.room() == 7
    answer(found, 30, 41.9)
    assert found.room() == 7


def test_refusals_of_what_was_sent_before_a_pause_only_lengthen_it() -> None:
    found = pace()
    found.refused(0.0, 1.0, FULL)
    found.refused(0.5, 2.0, FULL)
    found.refused(0.5, 0.1, FULL)
    assert found.enter(0.5, math.inf) == 2.0


def test_without_a_told_time_pauses_grow_until_there_is_an_answer() -> None:
    found = pace()
    waits = []
    now = 0.0
    for _ in range(3):
        waits.append(round(found.refused(now, None, FULL), 6))
        now += waits[-1]
    assert waits == [0.05, 0.1, 0.2]
    answer(found, 1, now)
    assert round(found.refused(now, None, FULL), 6) == 0.05


def test_a_token_is_brought_by_ten_requests() -> None:
    found = pace(reserve=1)
    assert found.spend()
    assert not found.spend()
    for _ in range(11):
        found.begin()
    assert found.spend()
    assert not found.spend()


def test_there_are_never_more_under_way_than_tokens_but_always_one() -> None:
    found = pace()
    answer(found, 50)
    while found.spend():
        pass
    assert found.room() == 1
