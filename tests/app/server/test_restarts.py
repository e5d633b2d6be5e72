"""When a worker that failed is tried again, what is said of it, and when none can start any more."""

import pytest

from app.server.restarts import OFTEN, ONCE, TWICE, End, Restarts


def restarts(count: int = 1) -> Restarts:
    return Restarts(count, pause_s=1.0, young_s=5.0)


def test_one_that_has_worked_for_a_while_is_replaced_at_once_and_nothing_is_said() -> None:
    workers = restarts()
    assert workers.ended(0, End(5.0, "was ended by SIGKILL", 9, OFTEN)) == 0.0
    assert workers.words(0) == ""
    assert not workers.are_all_lost()


def test_the_pause_before_another_attempt_doubles_up_to_half_a_minute_and_begins_anew() -> None:
    workers = restarts()
    failed = End(None, "cannot start again: The bundle is gone", 3, ONCE)
    assert [workers.ended(0, failed) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    workers.ended(0, End(5.0, "was ended by SIGKILL", 9, OFTEN))
    assert workers.ended(0, failed) == 1


def test_the_pause_stays_bounded_however_long_it_fails() -> None:
    workers = restarts()
    assert max(workers.ended(0, End(None, "cannot start again", 3, ONCE)) for _ in range(5000)) == 30


def test_its_own_words_are_sure_at_once() -> None:
    workers = restarts()
    workers.ended(0, End(None, "cannot start again: The bundle is gone", 3, ONCE))
    assert workers.words(0) == "It cannot start again: The bundle is gone."
    assert (workers.are_all_lost(), workers.exit_code(0)) == (True, 3)


def test_a_start_that_hangs_is_sure_the_second_time() -> None:
    workers = restarts()
    hung = End(None, "was ended by SIGKILL while it started", 9, TWICE)
    workers.ended(0, hung)
    assert (workers.words(0), workers.are_all_lost()) == ("", False)
    workers.ended(0, hung)
    assert workers.words(0) == "It was ended by SIGKILL while it started, 2 times in a row."
    assert (workers.are_all_lost(), workers.exit_code(0)) == (True, 9)


def test_one_that_is_killed_young_is_said_to_fail_the_third_time_and_given_up_the_fifth() -> None:
    workers = restarts()
    said, lost = [], []
    for _ in range(5):
        workers.ended(0, End(0.5, "was ended by SIGKILL soon after its start", 9, OFTEN))
        said.append(bool(workers.words(0)))
        lost.append(workers.are_all_lost())
    assert said == [False, False, True, True, True]
    assert lost == [False, False, False, False, True]


def test_ends_of_different_kinds_do_not_add_up() -> None:
    workers = restarts()
    workers.ended(0, End(0.5, "ended with exit code 5 soon after its start", 5, OFTEN))
    workers.ended(0, End(None, "was ended by SIGKILL while it started", 9, TWICE))
    assert (workers.words(0), workers.are_all_lost()) == ("", False)


@pytest.mark.parametrize("survivor", [0, 1])
def test_as_long_as_one_has_not_failed_not_all_are_lost(survivor: int) -> None:
    workers = restarts(2)
    workers.ended(1 - survivor, End(None, "cannot start again", 3, ONCE))
    assert not workers.are_all_lost()
    workers.ended(survivor, End(None, "cannot start again", 3, ONCE))
    assert workers.are_all_lost()
