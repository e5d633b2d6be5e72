"""CPUs that threads take from each other, and time that jumps: against what theory says."""

import os
from itertools import zip_longest
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet.events import Events
from benchmarks.fleet.processors import TICK_S, Processors
from benchmarks.fleet.speeds import WINDOW_S, idle_wake_s, joined, measure, relative, speeds_of


def test_what_is_due_first_happens_first_and_what_is_due_together_in_the_order_of_planning():
    events, said = Events(), []
    for name, when in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        events.at(when, said.append, name)
    events.run()
    assert said == ["a", "b", "c"]
    assert events.now == 2.0


def test_what_is_cancelled_does_not_happen_and_what_has_passed_happens_now():
    events, said = Events(), []
    events.at(1.0, said.append, "cancelled").cancel()
    events.at(2.0, lambda: events.at(0.5, lambda: said.append(events.now)))
    events.run()
    assert said == [2.0]


def test_two_threads_on_one_cpu_take_twice_as_long_each():
    assert _ends(1, (1.0, 1.0)) == pytest.approx([2.0, 2.0], abs=2 * TICK_S)


def test_two_threads_on_two_cpus_do_not_wait_for_each_other():
    assert _ends(2, (1.0, 3.0)) == pytest.approx([1.0, 3.0])


def test_a_short_one_leaves_its_share_to_the_others():
    assert _ends(1, (1.0, 3.0)) == pytest.approx([2.0, 4.0], abs=2 * TICK_S)


def test_who_wakes_up_waits_for_a_tick_where_another_has_just_begun_and_not_where_it_has_had_a_slice():
    assert _ends(1, (0.01, 0.0001), at=(0.0, 0.001)) == pytest.approx([0.0041, 0.0101])
    assert _ends(1, (0.01, 0.0001), at=(0.0, 0.002)) == pytest.approx([0.0021, 0.0101])


def test_a_thread_that_goes_on_keeps_its_cpu():
    events, ends = Events(), []
    processors = Processors(events, 1)
    processors.work(0.001, lambda: processors.work(0.001, lambda: ends.append(("a", events.now)), "a"), "a")
    processors.work(0.001, lambda: ends.append(("b", events.now)), "b")
    events.run()
    assert ends == [("a", pytest.approx(0.002)), ("b", pytest.approx(0.003))]


def test_an_idle_cpu_needs_a_moment_to_wake_up():
    assert _ends(2, (1.0, 1.0), idle_wake_s=0.1) == pytest.approx([1.1, 1.1])


def test_an_idle_cpu_takes_what_waits_for_another():
    assert _ends(2, (0.003, 0.01, 0.002), homes=(0, 1, 1)) == pytest.approx([0.003, 0.005, 0.01], abs=1e-6)


def test_cpus_that_are_all_busy_may_be_slower_than_one_alone():
    assert _ends(2, (1.0,), together=0.5) == pytest.approx([1.0])
    assert _ends(2, (1.0, 1.0), together=0.5) == pytest.approx([2.0, 2.0])


def test_a_slower_machine_takes_longer_from_then_on_and_one_that_stands_still_for_ever():
    events, ends = Events(), []
    processors = Processors(events, 1)
    processors.work(2.0, lambda: ends.append(events.now))
    events.at(1.0, processors.run_at, 0.5)
    events.run()
    assert ends == pytest.approx([3.0])
    processors.run_at(0.0)
    processors.work(1.0, lambda: ends.append(events.now))
    events.run()
    assert len(ends) == 1


def test_threads_of_one_home_share_it_only_where_no_other_cpu_is_idle():
    assert _ends(2, (1.0, 1.0), homes=(0, 0)) == pytest.approx([1.0, 1.0])
    assert _ends(2, (4.0, 1.0, 1.0), homes=(1, 0, 0)) == pytest.approx([2.0, 2.0, 4.0], abs=2 * TICK_S)


def test_a_cpu_is_as_fast_as_was_seen_window_by_window_over_and_over():
    speeds = ((0.5, 1.5),)  # 0.02 s of work in two windows
    assert _ends(1, (0.08,), speeds=speeds) == pytest.approx([4 * WINDOW_S])
    assert _ends(1, (0.005,), speeds=speeds) == pytest.approx([0.01])
    assert _ends(1, (0.005,), speeds=speeds, first=1) == pytest.approx([0.005 / 1.5])


def test_one_that_stands_still_for_a_window_goes_on_in_the_next():
    assert _ends(1, (0.01,), speeds=((0.0, 2.0),)) == pytest.approx([WINDOW_S + 0.005])


def test_each_cpu_has_its_own_speed_and_the_threads_on_it():
    assert _ends(2, (0.1, 0.1), homes=(0, 1), speeds=((0.5,), (2.0,))) == pytest.approx([0.05, 0.2])


def test_pieces_of_work_count_in_their_windows_and_become_shares_of_a_mean():
    assert speeds_of([0.0, 0.01, 0.02, 0.04]) == (2.0, 1.0)
    assert speeds_of([0.0, 0.02, 0.06, 0.08]) == (1.0, 0.5, 0.5, 1.0)  # a pause, and the half that was done in each
    assert relative(((1.0, 2.0), (3.0, 6.0)), [((1.0, 3.0), (6.0, 6.0))]) == ((0.5, 1.0), (0.5, 1.0))
    assert joined([((1.0,), (2.0,)), ((3.0,), (4.0,))]) == ((1.0, 3.0), (2.0, 4.0))


def test_the_speeds_of_this_machine_are_seen():
    found = measure(0.2)
    assert len(found) == len(os.sched_getaffinity(0))
    for of_cpu in found:
        assert len(of_cpu) == 10
        assert sum(of_cpu) > 10
    assert 0 < idle_wake_s(20) < 1


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=20), st.integers(1, 4))
def test_no_work_is_lost_or_made(jobs: list[float], cpus: int):
    events, done = Events(), []
    processors = Processors(events, cpus)
    for job in jobs:
        processors.work(job, lambda: done.append(events.now))
    events.run()
    assert len(done) == len(jobs)
    assert processors.busy_s == pytest.approx(sum(jobs))
    assert max(done) >= max(*jobs, sum(jobs) / cpus) * (1 - 1e-9)


@pytest.mark.parametrize("utilization", [0.3, 0.7])
def test_the_mean_time_under_processor_sharing_is_that_of_theory_whatever_the_distribution(utilization: float):
    """M/G/1 with processor sharing: E[T] = E[S] / (1 - load). Kleinrock, Queueing Systems II, 4.4."""
    events, rng, times = Events(), Random(3), []
    processors = Processors(events, 1)

    def arrive(count: int) -> None:
        came, seconds = events.now, rng.choice((0.04, 0.36))  # many ticks, of which each takes its turn
        processors.work(seconds, lambda: times.append(events.now - came))
        if count:
            events.after(rng.expovariate(utilization / 0.2), arrive, count - 1)

    arrive(15_000)
    events.run()
    assert sum(times) / len(times) == pytest.approx(0.2 / (1 - utilization), rel=0.1)


def _ends(
    cpus: int,
    jobs: tuple[float, ...],
    together: float = 1.0,
    homes: tuple[int, ...] = (),
    at: tuple[float, ...] = (),
    **options,
) -> list[float]:
    events, ends = Events(), []
    processors = Processors(events, cpus, together, **options)
    for job, home, when in zip_longest(jobs, homes, at, fillvalue=0):
        events.at(when, processors.work, job, lambda: ends.append(events.now), None, home)
    events.run()
    return ends


def test_a_pinned_thread_waits_for_its_cpu_while_another_idles_and_one_that_is_not_goes_there():
    events, ends = Events(), []
    processors = Processors(events, 2)
    for name, is_pinned in (("a", True), ("b", True), ("c", False)):
        processors.work(0.001, lambda name=name: ends.append((name, events.now)), name, is_pinned=is_pinned)
    events.run()
    assert dict(ends) == pytest.approx({"a": 0.001, "b": 0.002, "c": 0.001})


def test_a_cpu_that_has_nothing_to_do_passes_over_what_is_pinned_elsewhere():
    events, ends = Events(), []
    processors = Processors(events, 2)
    processors.work(0.004, lambda: ends.append(("a", events.now)), "a", is_pinned=True)
    processors.work(0.0005, lambda: ends.append(("b", events.now)), "b", home=1, is_pinned=True)
    processors.work(0.001, lambda: ends.append(("pinned", events.now)), "pinned", is_pinned=True)
    processors.work(0.001, lambda: ends.append(("free", events.now)), "free")
    events.run()
    found = dict(ends)
    assert found["b"] == pytest.approx(0.0005)
    assert found["free"] == pytest.approx(0.0015)
    assert found["pinned"] > 0.002
