"""Rates by a clock that the work itself moves: every figure is known beforehand."""

import threading
from collections.abc import Callable

import pytest

from cli.bench.stopwatch import Candidate, Measured, measure, rate, ratio


class WorkClock(threading.local):
    """A clock for each thread, which only work moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def working(self, seconds: float, amount: float = 1) -> Callable[[], float]:
        """Work that takes so long, and does so much."""

        def work() -> float:
            self.now += seconds
            return amount

        return work


@pytest.fixture
def clock() -> WorkClock:
    return WorkClock()


def test_a_rate_is_work_done_by_the_time_it_took(clock: WorkClock) -> None:
    assert rate(Candidate("x", clock.working(0.25, 8)), 1.0, clock) == 32


def test_threads_work_side_by_side_and_add_up(clock: WorkClock) -> None:
    assert rate(Candidate("x", clock.working(0.25, 8), threads=3), 1.0, clock) == 96


def test_threads_really_are_inside_at_the_same_time(clock: WorkClock) -> None:
    meeting = threading.Barrier(3, timeout=10)
    work = clock.working(1)

    def meet() -> float:
        meeting.wait()
        return work()

    assert rate(Candidate("x", meet, threads=3), 1.0, clock) == 3


def test_one_thread_is_the_callers_own(clock: WorkClock) -> None:
    seen: list[threading.Thread] = []
    work = clock.working(1)

    def noted() -> float:
        seen.append(threading.current_thread())
        return work()

    rate(Candidate("x", noted), 1.0, clock)
    assert seen == [threading.current_thread()]


def test_a_piece_of_work_longer_than_its_time_is_finished_and_counted_whole(clock: WorkClock) -> None:
    assert rate(Candidate("x", clock.working(5, 10)), 1.0, clock) == 2


def test_the_piece_under_way_at_the_end_counts_with_the_time_it_took(clock: WorkClock) -> None:
    assert rate(Candidate("x", clock.working(0.75, 3)), 1.0, clock) == 4


def test_what_fails_in_a_thread_is_raised() -> None:
    def fail() -> float:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        rate(Candidate("x", fail, threads=2), 1.0, lambda: 0.0)


def test_candidates_take_turns_in_both_orders_after_a_call_that_does_not_count(clock: WorkClock) -> None:
    turns: list[str] = []

    def named(name: str) -> Candidate[str]:
        work = clock.working(1)

        def noted() -> float:
            turns.append(name)
            return work()

        return Candidate(name, noted)

    measured = measure([named("a"), named("b"), named("c")], seconds=1, rounds=3, clock=clock)
    assert "".join(turns) == "abc" + "abc" + "cba" + "abc"
    assert measured == {name: Measured((1.0, 1.0, 1.0)) for name in "abc"}


def test_progress_counts_every_turn_up_to_all(clock: WorkClock) -> None:
    steps: list[tuple[int, int]] = []
    candidates = [Candidate(name, clock.working(1)) for name in "ab"]
    measure(candidates, seconds=1, rounds=2, clock=clock, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 6) for done in range(7)]


def test_median_and_spread() -> None:
    measured = Measured((10.0, 30.0, 20.0))
    assert measured.rate == 20
    assert measured.spread == 1


def test_a_ratio_is_taken_round_by_round() -> None:
    """The machine slows down to a tenth; the ratio does not care."""
    assert ratio(Measured((100.0, 50.0, 10.0)), Measured((50.0, 25.0, 5.0))) == 2
    assert ratio(Measured((30.0, 10.0, 20.0)), Measured((10.0, 10.0, 10.0))) == 2
