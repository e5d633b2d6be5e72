"""A whole fleet: balancers, failures, updates, scaling. Every call has one end, and a run repeats itself."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fleet.autoscaler import Settings
from benchmarks.fleet.balancer import Policy
from benchmarks.fleet.cases import like_a_service
from benchmarks.fleet.clients import Manner, burst, steady
from benchmarks.fleet.cluster import Outcome, Scaling, Scenario, simulate
from benchmarks.fleet.deployment import Times
from benchmarks.fleet.request import End

_PARAMETERS = like_a_service(image_s=0.02)  # 40 images a second: few events
_ONE_S = _PARAMETERS.capacity_s()
_BY_CONNECTION = {"policy": Policy.CONNECTIONS, "tries": 1, "rest_s": 0.0}


def _scenario(load: float, pods: int = 3, seconds: float = 20.0, **values) -> Scenario:
    rate = load * pods * _ONE_S
    return Scenario("", steady(rate), rate, seconds, pods, **values)


def _run(scenario: Scenario, seed: int = 0) -> Outcome:
    return simulate(scenario, _PARAMETERS, seed)


def test_half_busy_pods_answer_everything():
    outcome = _run(_scenario(0.5))
    assert set(outcome.ledger.ends) == {End.ANSWERED}
    assert outcome.ledger.open == 0
    assert outcome.pod_hours == pytest.approx(3 * 20 / 3600)


def test_a_run_repeats_itself_and_another_seed_is_another_run():
    first, again, other = (_run(_scenario(0.8), seed).ledger.summary(0, 20) for seed in (1, 1, 2))
    assert first == again != other


def test_beyond_the_capacity_as_much_is_answered_as_can_be_and_in_time():
    outcome = _run(_scenario(2.0, manner=Manner(timeout_s=0.5)))
    summary = outcome.ledger.summary(5, 20)
    assert summary.goodput_s == pytest.approx(3 * _ONE_S, rel=0.12)
    assert summary.p99_ms <= 500
    assert summary.refused > 0.35


@given(
    st.floats(0.2, 2.5),
    st.sampled_from(list(Policy)),
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 6), st.sampled_from(("crash", "lose_node", "hang_worker", "roll"))), max_size=2),
    st.integers(0, 2**16),
)
@settings(max_examples=6, deadline=None)
def test_every_call_has_one_end_whatever_happens(load, policy, listens, happens, seed):
    what = tuple((when, lambda one, name=name: getattr(one, name)()) for when, name in happens)
    manner = Manner(timeout_s=0.3, tries=3, listens=listens)
    outcome = _run(_scenario(load, pods=3, seconds=8, policy=policy, manner=manner, happens=what), seed)
    assert outcome.ledger.open == 0
    assert sum(outcome.ledger.ends.values()) == len(outcome.ledger.calls)
    assert all(1 <= call.tries <= 3 for call in outcome.ledger.calls)


def test_two_random_choices_wait_less_than_one():
    two, one = (
        _run(_scenario(0.8, policy=policy)).ledger.summary(2, 20) for policy in (Policy.TWO_CHOICES, Policy.RANDOM)
    )
    assert two.p99_ms < one.p99_ms


def test_a_balancer_that_counts_spares_a_slow_pod_and_one_that_takes_turns_does_not():
    least, turns = (
        _run(_scenario(0.6, policy=policy, happens=((0.0, lambda one: one.slow_node(0.3)),)))
        for policy in (Policy.LEAST_REQUESTS, Policy.ROUND_ROBIN)
    )
    assert least.balancer.sent["pod-1"] < 0.7 * turns.balancer.sent["pod-1"]
    assert least.ledger.summary(2, 20).p99_ms < turns.ledger.summary(2, 20).p99_ms


def test_a_pod_that_crashes_costs_nothing_where_another_is_tried_and_something_where_none_is():
    scenario = _scenario(0.5, happens=((5.0, lambda one: one.crash()),))
    assert _run(scenario).ledger.summary(0, 20).failed == 0
    assert _run(replace(scenario, **_BY_CONNECTION)).ledger.summary(0, 20).failed > 0


def test_a_lost_node_costs_until_it_is_noticed_where_nobody_looks():
    times = Times(lost_s=10.0)
    scenario = _scenario(0.4, seconds=30, times=times, manner=Manner(timeout_s=0.5),
                         happens=((5.0, lambda one: one.lose_node()),))  # fmt: skip
    blind = _run(replace(scenario, **_BY_CONNECTION))
    seeing = _run(scenario)
    assert blind.ledger.summary(5, 15).failed > 5 * seeing.ledger.summary(5, 15).failed > 0
    assert blind.ledger.summary(17, 30).failed == 0


def test_an_update_loses_nothing_with_preStop_and_delay_a_little_without_the_delay_and_more_with_neither():  # noqa: N802
    scenario = _scenario(0.4, seconds=90, happens=((5.0, lambda one: one.roll()),), **_BY_CONNECTION)
    ways = (Times(), Times(delay_s=0.0), Times(delay_s=0.0, pre_stop_s=0.0))
    with_both, bare, neither = (_run(replace(scenario, times=one)).ledger.summary(0, 90).failed for one in ways)
    assert with_both == 0
    assert bare < 0.003  # what comes over a kept connection in the tenth of a second before it is closed
    assert neither > max(2 * bare, 0.0005)


def test_an_update_without_both_loses_nothing_where_a_balancer_tries_another_pod():
    times = Times(delay_s=0.0, pre_stop_s=0.0)
    scenario = _scenario(0.4, seconds=90, times=times, happens=((5.0, lambda one: one.roll()),))
    assert _run(scenario).ledger.summary(0, 90).failed == 0


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1), (2, 1)])
def test_an_update_keeps_to_its_limits_and_replaces_every_pod(surge: int, unavailable: int):
    seen, deployments = [], []

    def roll(deployment):
        deployments.append(deployment)
        deployment.roll()

    look = tuple((when / 4, lambda one: seen.append((len(one.ready), len(one.starting)))) for when in range(21, 480))
    times = Times(max_surge=surge, max_unavailable=unavailable)
    _run(_scenario(0.1, pods=4, seconds=120, times=times, happens=((5.0, roll), *look)))
    assert min(ready for ready, _ in seen) == 4 - unavailable
    assert max(ready + starting for ready, starting in seen) <= 4 + surge
    assert {pod.name for pod in deployments[0].ready}.isdisjoint({"pod-1", "pod-2", "pod-3", "pod-4"})
    assert len(deployments[0].ready) == 4


@pytest.mark.parametrize("targets", [(("cpu", 0.6),), (("in flight", 4.0),), (("cpu", 0.6), ("in flight", 8.0))])
def test_an_autoscaler_answers_a_burst_and_lets_go_five_minutes_later(targets):
    slow = like_a_service(image_s=0.06)
    rate = 2 * slow.capacity_s()
    scenario = Scenario("", burst(0.25 * rate, 6.0, 60, 180), 1.5 * rate, 570.0, 1,
                        scaling=Scaling(Settings(least=1, most=10), targets))  # fmt: skip
    outcome = simulate(scenario, slow)
    assert max(outcome.pods[:60]) <= 2
    assert max(outcome.pods[60:180]) >= 3
    assert outcome.ledger.summary(140, 180).good > 0.95
    assert min(outcome.pods[180:400]) >= 3
    assert outcome.pods[-1] <= 2


def test_clients_that_wait_as_they_are_told_ask_less_often_than_those_that_do_not():
    def tries(**manner) -> float:
        return _run(_scenario(2.0, manner=Manner(1.0, tries=5, **manner))).ledger.summary(2, 15).tries

    assert tries(listens=True) < tries(pause_s=0.05)


def test_nobody_who_waits_as_told_is_lost_when_a_burst_is_over():
    rate = 0.4 * 3 * _ONE_S
    scenario = Scenario("", burst(rate, 4, 5, 8), 4 * rate, 40, 3, manner=Manner(1.0, tries=6, listens=True))
    assert _run(scenario).ledger.ends[End.ANSWERED] > 0.97 * len(_run(scenario).ledger.calls)
