"""The autoscaler: worked examples of Kubernetes' documentation, and what must hold always."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fleet.autoscaler import Autoscaler, Behavior, Policy, Settings, by_pods, by_total

_TARGET = 100.0


def _settings(least: int = 1, most: int = 1000, **values) -> Settings:
    return Settings(least, most, **values)


@pytest.mark.parametrize(
    ("each", "replicas", "wanted"), [(200.0, 4, 8), (50.0, 4, 2), (109.0, 10, 10), (91.0, 10, 10), (111.0, 10, 12)]
)
def test_the_ratio_of_metric_and_target_decides_unless_it_is_within_a_tenth(each: float, replicas: int, wanted: int):
    assert by_pods(_settings(), _TARGET, [each] * replicas) == wanted
    assert by_total(_settings(), _TARGET, each * replicas, replicas) == wanted


def test_pods_that_are_not_ready_count_as_idle_so_that_it_does_not_overshoot():
    """Two at twice the target want four; two more are starting already."""
    assert by_pods(_settings(), _TARGET, [200.0, 200.0]) == 4
    assert by_pods(_settings(), _TARGET, [200.0, 200.0], unready=2) == 4
    assert by_pods(_settings(), _TARGET, [150.0, 150.0], unready=2) == 4
    assert by_pods(_settings(), _TARGET, [500.0, 500.0], unready=2) == 10


def test_it_goes_up_by_four_or_doubles_in_fifteen_seconds_whatever_is_more():
    assert Autoscaler(_settings()).decide(0.0, 1, 100) == 5
    assert Autoscaler(_settings()).decide(0.0, 10, 100) == 20


def test_what_was_added_in_the_same_period_counts():
    scaler = Autoscaler(_settings())
    assert scaler.decide(0.0, 10, 15) == 15
    assert scaler.decide(5.0, 15, 100) == 20
    assert scaler.decide(16.0, 20, 100) == 30  # twice the 15 that there were when the period began


def test_it_goes_down_only_to_the_highest_wish_of_five_minutes():
    scaler = Autoscaler(_settings())
    assert scaler.decide(0.0, 10, 10) == 10
    assert scaler.decide(60.0, 10, 7) == 10
    assert scaler.decide(120.0, 10, 3) == 10
    assert scaler.decide(301.0, 10, 3) == 7
    assert scaler.decide(361.0, 7, 3) == 3


def test_of_a_tenth_or_four_pods_a_minute_the_larger_change_counts_as_long_as_a_tenth_is_more():
    """The documentation's example: 80 to 72, then 64 as a tenth of 72 is rounded up, and by four below 40."""
    behavior = Behavior(down=(Policy(60.0, pods=4), Policy(60.0, percent=10.0)), down_window_s=0.0)
    scaler = Autoscaler(_settings(behavior=behavior))
    replicas, seen = 80, []
    for minute in range(9):
        replicas = scaler.decide(minute * 61.0, replicas, 10)
        seen.append(replicas)
    assert seen[:2] == [72, 64]
    assert {before - after for before, after in pairwise(seen) if before <= 40} == {4}


@given(st.lists(st.tuples(st.floats(0.1, 40), st.integers(0, 500)), min_size=1, max_size=60))
def test_it_stays_between_its_limits_and_never_more_than_doubles_or_adds_four_at_once(steps: list[tuple[float, int]]):
    scaler, now, replicas = Autoscaler(_settings(least=2, most=60)), 0.0, 5
    for passed, wanted in steps:
        now += passed
        before, replicas = replicas, scaler.decide(now, replicas, wanted)
        assert 2 <= replicas <= 60
        assert replicas <= max(before + 4, 2 * before)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.integers(0, 10))
def test_more_load_never_wants_fewer(ready: list[float], unready: int):
    settings = _settings()
    assert by_pods(settings, _TARGET, ready, unready) <= by_pods(
        settings, _TARGET, [each * 1.5 for each in ready], unready
    )
