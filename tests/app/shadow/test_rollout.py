"""Which requests a second model answers, and when it is stopped."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.errors import InferenceFailed
from app.shadow.rollout import LAST, MOST_FAILED, STUCK_S, Rollout
from tests.app.shadow.watched import WatchedShadowMetrics

FAILED = InferenceFailed.code


class Second:
    """A second model that may be exchanged, get stuck, or fail its canary."""

    def __init__(self) -> None:
        self.metrics = WatchedShadowMetrics()
        self.stuck_s = 0.0
        self.exchange()

    def exchange(self) -> None:
        self.model: Any = SimpleNamespace(
            name="new", failure=None, classifier=SimpleNamespace(stuck_s=lambda: self.stuck_s, spec=object())
        )

    @property
    def spec(self) -> Any:
        return self.model.classifier.spec

    def rollout(self, share: float) -> Rollout:
        rollout = Rollout(lambda: self.model, self.metrics, share=share)
        rollout.begin()
        return rollout


@pytest.fixture
def second() -> Iterator[Second]:
    return Second()


def served(rollout: Rollout, count: int = 2000) -> set[str]:
    clients = (f"client {number}" for number in range(count))
    return {client for client in clients if rollout.model_for(client) is not None}


def test_its_share_of_the_clients_is_answered_and_a_larger_share_keeps_them(second: Second) -> None:
    few, more = served(second.rollout(0.05)), served(second.rollout(0.3))
    assert 60 < len(few) < 140
    assert 500 < len(more) < 700
    assert few < more
    assert served(second.rollout(0.05)) == few
    assert served(second.rollout(0)) == set()
    assert len(served(second.rollout(1))) == 2000


def test_it_answers_nobody_while_its_canary_fails(second: Second) -> None:
    rollout = second.rollout(1)
    second.model.failure = "any"
    assert rollout.model_for("somebody") is None
    second.model.failure = None
    assert rollout.model_for("somebody") is second.model


def test_too_many_failures_stop_it_until_another_model_comes(second: Second) -> None:
    rollout = second.rollout(1)
    for _ in range(MOST_FAILED - 1):
        rollout.note(second.spec, FAILED)
    assert rollout.model_for("somebody") is second.model
    rollout.note(second.spec, FAILED)
    assert rollout.model_for("somebody") is None
    assert rollout.is_stopped
    second.exchange()
    assert not rollout.is_stopped
    assert rollout.model_for("somebody") is second.model
    rollout.note(second.spec, FAILED)
    assert rollout.model_for("somebody") is second.model  # failures of the one before count no more


def test_failures_of_one_that_was_exchanged_stop_not_the_one_that_took_over(second: Second) -> None:
    rollout = second.rollout(1)
    old = second.spec
    second.exchange()
    for _ in range(2 * MOST_FAILED):  # pictures that waited behind its last run
        rollout.note(old, FAILED)
    assert rollout.model_for("somebody") is second.model


def test_failures_before_an_exchange_are_not_added_to_those_after_it(second: Second) -> None:
    rollout = second.rollout(1)
    for _ in range(MOST_FAILED - 1):
        rollout.note(second.spec, FAILED)
    second.exchange()
    rollout.note(second.spec, FAILED)  # of a client that named it, before any that did not
    assert not rollout.is_stopped


def test_a_stop_is_counted_once(second: Second, caplog: pytest.LogCaptureFixture) -> None:
    rollout = second.rollout(1)
    for _ in range(3 * MOST_FAILED):
        rollout.note(second.spec, FAILED)
    stops = second.metrics.stops
    assert stops._segment.numbers[stops.labels("new", FAILED)._at] == 1
    assert [record.message for record in caplog.records] == [
        "the shadow new answers no more requests, and the model before it does: 5 of its last 5 pictures failed"
    ]


def test_failures_that_are_far_apart_stop_nothing(second: Second) -> None:
    rollout = second.rollout(1)
    for _ in range(3 * MOST_FAILED):
        rollout.note(second.spec, FAILED)
        for _ in range(LAST // (MOST_FAILED - 1)):
            rollout.note(second.spec, "classified")
    assert not rollout.is_stopped


@pytest.mark.parametrize("outcome", ["bad_picture", "queue_full", "client_gone", "deadline_passed"])
def test_what_a_client_may_cause_is_no_failure(second: Second, outcome: str) -> None:
    rollout = second.rollout(1)
    for _ in range(10 * LAST):
        rollout.note(second.spec, outcome)
    assert not rollout.is_stopped


def test_a_run_that_does_not_end_stops_it(second: Second) -> None:
    rollout = second.rollout(1)
    second.stuck_s = STUCK_S + 1
    assert rollout.model_for("somebody") is None
    second.stuck_s = 0
    assert rollout.model_for("somebody") is None  # it is stopped for good


def test_without_a_second_model_nobody_is_answered(second: Second) -> None:
    rollout = second.rollout(1)
    spec, second.model = second.spec, None
    assert rollout.model_for("somebody") is None
    rollout.note(spec, FAILED)
    assert not rollout.is_stopped
