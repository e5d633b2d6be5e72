"""Who is let in, and what those who are not are told: a promise that can be kept. Times are numbers here."""

import math
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import QueueFull
from app.inference.admission import Admission
from app.system.quota import Quota


def refused(admission: Admission, count: int, now: float, deadline: float = math.inf) -> QueueFull:
    with pytest.raises(QueueFull) as error:
        admission.take(count, now, deadline)
    assert error.value.detail.endswith(f" Try again in {error.value.retry_after_s} s.")
    return error.value


def measured(*, capacity: int = 1000, rate: int = 10) -> Admission:
    """Full at 100 s, and `rate` a second were answered during the last second."""
    admission = Admission(Quota(capacity), capacity)
    admission.take(capacity, 99.0)
    admission.answered(rate, 100.0)
    return admission


def emptied(admission: Admission, *, leave: int, now: float) -> Admission:
    while admission.taken > leave:
        admission.release(now)
    return admission


# --- room ---


def test_places_are_given_to_all_or_none_and_given_back() -> None:
    admission = Admission(Quota(3), 2)
    admission.take(2, 0.0)
    assert str(refused(admission, 2, 0.0)).startswith(
        "2 of 3 places in the queue are taken; expected room for 2. Try again in "
    )
    assert admission.taken == 2
    admission.take(1, 0.0)
    refused(admission, 1, 0.0)
    admission.release(1.0)
    admission.take(1, 1.0)
    assert admission.taken == 3


def test_an_item_on_its_way_takes_a_place_and_is_no_work_yet() -> None:
    admission = Admission(Quota(2), 1)
    admission.take(1, 0.0, here=False)
    assert (admission.taken, admission.here) == (1, 0)
    admission.answered(10, 1.0)  # nothing was kept busy: this is not what can be done at most
    admission.take(1, 1.0, deadline=1.0, here=False)
    refused(admission, 1, 1.0)
    admission.arrive(1, 1.0)
    admission.answered(10, 2.0)
    admission.release(2.0, here=False)
    assert (admission.taken, admission.here) == (1, 1)
    refused(admission, 1, 2.0, deadline=2.1)  # ten a second, and one is before it


def test_places_are_those_of_all_who_share_them_and_time_is_each_ones_own() -> None:
    permits = Quota(12)
    slow, fast = Admission(permits, 5), Admission(permits, 5)
    slow.take(10, 99.0)
    slow.answered(10, 100.0)
    assert str(refused(fast, 3, 100.0)).startswith("10 of 12 places in the queue are taken; expected room for 3.")
    refused(slow, 1, 100.0, deadline=100.1)
    assert permits.taken == 10  # what came too late has given its place back
    fast.take(1, 100.0, deadline=100.1)  # the ten are not before it
    assert (slow.taken, fast.taken, permits.taken) == (10, 1, 11)
    fast.take(1, 100.0)
    assert str(refused(fast, 1, 100.0)).startswith("12 of 12 places in the queue are taken; expected room for 1.")
    slow.release(100.0)
    fast.take(1, 100.0)


def test_who_leaves_while_another_is_refused_leaves_no_contradiction() -> None:
    permits = Quota(4)
    permits.try_take = lambda count: False  # type: ignore[method-assign]  # the last has left since
    detail = refused(Admission(permits, 1), 2, 0.0).detail
    assert detail.startswith("3 of 4 places in the queue are taken; expected room for 2.")


# --- time ---


def test_whom_the_measured_rate_cannot_answer_in_time_is_refused() -> None:
    admission = emptied(measured(rate=10), leave=20, now=100.0)
    error = refused(admission, 1, 100.0, deadline=102.0)
    assert str(error).startswith(
        "20 pictures are before this one, and an answer takes about 2625 ms; expected one within 2000 ms."
    )  # at four fifths of the rate, to be sure
    assert admission.taken == 20
    admission.take(1, 100.0, deadline=102.7)
    refused(admission, 1, 100.0, deadline=102.7)  # there are more before it now
    admission.take(100, 100.0)  # who does not say when is patient


def test_a_rate_measured_in_a_bad_moment_keeps_nobody_out_for_ever() -> None:
    """Files that take long to be found broken, say: while they were decoded, hardly anything was answered."""
    admission = emptied(measured(rate=1), leave=1, now=100.0)
    refused(admission, 9, 100.0, deadline=110.0)
    admission.release(100.0)
    admission.take(40, 100.0, deadline=130.0)  # alone, though 40 would take 50 s
    emptied(admission, leave=1, now=101.0)
    refused(admission, 40, 101.0, deadline=131.0)
    admission.took(0.0)
    admission.took(0.01)
    admission.take(40, 101.0, deadline=102.0)


def test_a_deadline_that_has_passed_is_no_negative_time() -> None:
    error = refused(emptied(measured(), leave=0, now=100.0), 1, 100.0, deadline=99.0)
    assert "expected one within 0 ms." in str(error)


def test_without_a_measured_rate_nobody_is_refused_for_want_of_time() -> None:
    admission = Admission(Quota(10), 5)
    admission.take(4, 0.0, deadline=-1.0)
    admission.answered(3, 1.0)  # and with so few inside, this is not what can be done at most
    admission.take(1, 2.0, deadline=2.0)
    assert admission.taken == 5


def test_the_rate_is_measured_while_enough_are_inside_to_keep_everything_busy() -> None:
    admission = Admission(Quota(100), 4)
    admission.take(3, 0.0)
    admission.answered(1, 10.0)  # alone: slower than it could be
    admission.take(1, 10.0)
    admission.answered(40, 12.0)
    admission.release(12.0)
    admission.answered(1, 60.0)
    assert "takes about 250 ms" in str(refused(admission, 1, 100.0, deadline=100.24))  # 4 at 20 a second, to be sure
    admission.take(1, 100.0, deadline=100.26)


def test_a_part_of_a_capacity_below_what_keeps_everything_busy_is_measured_when_it_is_taken() -> None:
    shares = memoryview(bytearray(8 * 4)).cast("d")
    admission = Admission(Quota(10, shares, 1), 50)  # of four processes each has three, when all is taken
    admission.take(2, 0.0)
    admission.answered(4, 2.0)
    admission.take(1, 2.0, deadline=2.0)  # nothing is known
    admission.answered(6, 4.0)
    assert "takes about 1667 ms" in str(refused(admission, 1, 4.0, deadline=4.0))  # four at 3 a second, to be sure


def test_a_capacity_below_what_keeps_everything_busy_is_measured_when_it_is_full() -> None:
    admission = Admission(Quota(2), 50)
    admission.take(2, 0.0)
    admission.answered(4, 2.0)
    assert refused(admission, 1, 2.0).retry_after_s == math.ceil(2 / 2 + 2 * 1 / 2)


# --- when to come again ---


def test_the_wait_is_at_least_a_second_and_at_most_a_minute() -> None:
    assert refused(Admission(Quota(1), 1), 2, 0.0).retry_after_s == 1  # nothing is known
    assert refused(measured(capacity=10, rate=1000), 1, 100.0).retry_after_s == 1
    assert refused(measured(capacity=1000, rate=1), 1, 100.0).retry_after_s == 60


def test_each_refusal_promises_a_part_of_a_second_of_its_own() -> None:
    """8 a second are answered: half of them are promised, once the 8 inside are done."""
    admission = measured(capacity=8, rate=8)
    waits = [refused(admission, 1, 100.0).retry_after_s for _ in range(16)]
    assert waits == [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4
    assert refused(admission, 4, 100.0).retry_after_s == 6  # a whole second for as many
    admission.answered(32, 104.0)
    assert refused(admission, 1, 104.0).retry_after_s == 3  # until 106 s all is promised to others
    admission.answered(40, 150.0)
    assert refused(admission, 1, 150.0).retry_after_s == 2  # what has passed binds nobody


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 300))
def test_of_any_second_only_half_is_promised(capacity: int, rate: int, refusals: int) -> None:
    admission = measured(capacity=capacity, rate=rate)
    waits = Counter(refused(admission, 1, 100.0).retry_after_s for _ in range(refusals))
    assert all(1 <= wait <= 60 for wait in waits)
    for wait, promised in waits.items():
        if wait < 60:
            assert promised <= rate / 2 + 1


@dataclass
class Model:
    """What admission counts, in a few words."""

    capacity: int
    taken: int = 0
    now: float = 0.0
    history: list[str] = field(default_factory=list)


steps = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 8), st.floats(-1, 20)),
    st.tuples(st.just("leave"), st.integers(1, 8), st.just(0.0)),
    st.tuples(st.just("answered"), st.integers(1, 8), st.just(0.0)),
    st.tuples(st.just("wait"), st.just(0), st.floats(0, 10)),
)


@settings(max_examples=200)
@given(st.integers(1, 12), st.integers(1, 12), st.lists(steps, max_size=60))
def test_whatever_happens_the_places_are_right_and_every_refusal_has_its_reason(
    capacity: int, enough: int, history: list[tuple[str, int, float]]
) -> None:
    admission, model = Admission(Quota(capacity), enough), Model(capacity)
    for step, count, seconds in history:
        if step == "wait":
            model.now += seconds
        elif step == "answered":
            admission.answered(count, model.now)
        elif step == "leave":
            for _ in range(min(count, model.taken)):
                admission.release(model.now)
                model.taken -= 1
        else:
            _take(admission, model, count, seconds)
        assert admission.taken == model.taken <= capacity


def _take(admission: Admission, model: Model, count: int, seconds: float) -> None:
    refusal: QueueFull | None = None
    try:
        admission.take(count, model.now, model.now + seconds)
        model.taken += count
    except QueueFull as error:
        refusal = error
    if refusal is not None:
        assert 1 <= refusal.retry_after_s <= 60
        full = "places in the queue are taken" in refusal.detail
        assert full == (model.taken + count > model.capacity)
        if not full:
            admission.take(count, model.now)  # only the deadline stood against it
            for _ in range(count):
                admission.release(model.now)
