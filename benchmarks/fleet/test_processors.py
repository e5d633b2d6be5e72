"""CPUs shared evenly, and time that jumps: against what theory says."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet.events import Events
from benchmarks.fleet.processors import Processors


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
    assert _ends(1, (1.0, 1.0)) == pytest.approx([2.0, 2.0])


def test_two_threads_on_two_cpus_do_not_wait_for_each_other():
    assert _ends(2, (1.0, 3.0)) == pytest.approx([1.0, 3.0])


def test_a_short_one_leaves_its_share_to_the_others():
    assert _ends(1, (1.0, 3.0)) == pytest.approx([2.0, 4.0])


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
        came, seconds = events.now, rng.choice((0.2, 1.8))
        processors.work(seconds, lambda: times.append(events.now - came))
        if count:
            events.after(rng.expovariate(utilization), arrive, count - 1)

    arrive(15_000)
    events.run()
    assert sum(times) / len(times) == pytest.approx(1 / (1 - utilization), rel=0.1)


def _ends(cpus: int, jobs: tuple[float, ...], together: float = 1.0) -> list[float]:
    events, ends = Events(), []
    processors = Processors(events, cpus, together)
    for job in jobs:
        processors.work(job, lambda: ends.append(events.now))
    events.run()
    return ends
