"""One worker: against queueing theory, and against the service's own batcher in virtual time."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DeadlinePassed, QueueFull
from app.inference.admission import Limits
from app.inference.batcher import Batcher
from app.system.quota import Quota
from benchmarks.fleet.cases import costing, like_a_service
from benchmarks.fleet.events import Events
from benchmarks.fleet.parameters import Parameters
from benchmarks.fleet.processors import Processors
from benchmarks.fleet.request import End, Request
from benchmarks.fleet.worker import Worker
from tests.app.virtual_time import clock_at, in_virtual_time, now

Arrival = tuple[float, float]  # when, and how long it may take


def test_fixed_runs_of_one_wait_as_theory_says():
    """M/D/1: W = load * S / (2 (1 - load))."""
    load, service_s = 0.7, 0.01
    waits = _mean_latency(costing(image_s=service_s), load / service_s) - service_s
    assert waits == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.12)


def test_exponential_times_wait_as_theory_says():
    """M/M/1: T = S / (1 - load). Decoding is all that a run takes."""
    load, service_s = 0.6, 0.01
    latency_s = _mean_latency(costing(), load / service_s, decode=lambda rng: rng.expovariate(1 / service_s))
    assert latency_s == pytest.approx(service_s / (1 - load), rel=0.12)


def test_batches_grow_with_the_load_and_are_never_larger_than_they_may_be():
    few, many = (_worker_after(like_a_service(), rate).batches for rate in (20, 150))
    assert sum(few) / len(few) < 1.2 < sum(many) / len(many)
    assert max(many) <= 8


def test_as_many_are_inside_as_little_says():
    """L = rate * W."""
    events, rng, ends, inside = Events(), Random(1), [], []
    worker = _worker(events, like_a_service())
    due = 0.0
    for number in range(3000):
        due += rng.expovariate(120)
        events.at(due, worker.receive, _request(number, due, ends))
    end = due
    events.every(0.0137, lambda: inside.append(worker.present) if events.now < end else None)
    events.run(end)
    mean_s = sum(one.latency_s for one in ends) / len(ends)
    assert sum(inside) / len(inside) == pytest.approx(len(ends) / end * mean_s, rel=0.1)


def test_thousands_that_come_at_once_and_cost_nothing_are_refused_one_after_another():
    events, ends = Events(), []
    worker = _worker(events, like_a_service(refuse_s=0.0))
    for number in range(3000):
        events.at(0.0, worker.receive, _request(number, 0.0, ends))
    events.run(60.0)
    assert len(ends) == 3000
    assert sum(one.end is End.REFUSED for one in ends) > 2000


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 400)), min_size=1, max_size=120),
    st.integers(1, 6),
    st.integers(2, 40),
)
@settings(max_examples=30, deadline=None)
def test_every_request_has_one_end_and_gives_its_permit_back(gaps: list[tuple[int, int]], most: int, capacity: int):
    events, ends = Events(), []
    worker = _worker(events, like_a_service(max_batch_size=most, queue_capacity=capacity))
    due = 0.0
    for number, (gap, patience) in enumerate(gaps):
        due += gap / 1000
        events.at(due, worker.receive, _request(number, due, ends, patience / 1000))
    events.run()
    assert sorted(one.number for one in ends) == list(range(len(gaps)))
    assert worker.admission.taken == worker.inside == worker.present == 0


def test_a_worker_that_dies_breaks_what_it_has_and_frees_its_permits():
    events, ends, permits = Events(), [], Quota(10)
    worker = Worker(events, Processors(events, 1), like_a_service(), permits, Random(0))
    for number in range(5):
        worker.receive(_request(number, 0.0, ends))
    events.at(0.003, worker.die)
    events.run()
    assert [one.end for one in ends] == [End.BROKEN] * 5
    assert permits.taken == 0


def test_a_worker_that_closes_refuses_what_comes_and_answers_what_it_has():
    events, ends = Events(), []
    worker = _worker(events, like_a_service())
    worker.receive(_request(0, 0.0, ends))
    events.at(0.001, worker.close)
    events.at(0.002, worker.receive, _request(1, 0.002, ends))
    events.run()
    assert {one.number: one.end for one in ends} == {0: End.ANSWERED, 1: End.DRAINING}


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from((40, 90, 5000))), min_size=1, max_size=150),
    st.integers(1, 5),
    st.integers(3, 30),
)
@settings(max_examples=25, deadline=None)
def test_the_same_requests_meet_the_same_fate_as_in_the_services_own_batcher(
    gaps: list[tuple[int, int]], most: int, capacity: int
):
    """Refused or not, how long told to wait, and when answered. Sums of powers of two: no rounding, and no ties."""
    arrivals, due = [], 0.0
    for number, (gap, patience) in enumerate(gaps):
        due += gap / 1024
        arrivals.append((due + number / 2**20, patience / 1024 + 1 / 2**22))
    parameters = costing(run_s=1 / 128, image_s=1 / 512, max_batch_size=most, queue_capacity=capacity)
    assert _simulated(parameters, arrivals) == in_virtual_time(_by_the_batcher)(parameters, arrivals)


def _simulated(parameters: Parameters, arrivals: list[Arrival]) -> list[tuple[str, float]]:
    events, ends = Events(), []
    worker = _worker(events, parameters)
    for number, (due, patience_s) in enumerate(arrivals):
        events.at(due, worker.receive, _request(number, due, ends, patience_s))
    events.run()
    fates = {
        End.ANSWERED: lambda one: ("answered", one.ended),
        End.EXPIRED: lambda one: ("expired", one.ended),
        End.REFUSED: lambda one: ("refused", one.retry_after_s),
    }
    return [fates[one.end](one) for one in sorted(ends, key=lambda one: one.number)]


async def _by_the_batcher(parameters: Parameters, arrivals: list[Arrival]) -> list[tuple[str, float]]:
    async def run(batch: list[int]) -> list[int]:
        await asyncio.sleep(parameters.run_s + len(batch) * parameters.image_s)
        return batch

    limits = Limits(max_batch_size=parameters.max_batch_size, queue_capacity=parameters.queue_capacity)
    batcher: Batcher[int, int] = Batcher(run, limits, _Deaf())

    async def ask(number: int, due: float, patience_s: float) -> tuple[str, float]:
        try:
            with batcher.admit(due + patience_s) as permit:
                await permit.answer(number, due + patience_s)
        except QueueFull as refused:
            return "refused", float(refused.retry_after_s)
        except DeadlinePassed:
            return "expired", now()
        return "answered", now()

    asked = []
    for number, (due, patience_s) in enumerate(arrivals):
        await clock_at(due)
        asked.append(asyncio.create_task(ask(number, due, patience_s)))
    return list(await asyncio.gather(*asked))


class _Deaf:
    """An observer that remembers nothing."""

    def depth(self, waiting: int, in_flight: int) -> None: ...

    def ran(self, batch_size: int) -> None: ...

    def dropped(self, stage: str, reason: str) -> None: ...

    def rejected(self, reason: str, count: int) -> None: ...


def _worker(events: Events, parameters: Parameters) -> Worker:
    processors = Processors(events, parameters.cpus, parameters.together)
    return Worker(events, processors, parameters, Quota(parameters.queue_capacity), Random(0))


def _request(number: int, due: float, ends: list[Request], timeout_s: float = 60.0, decode_s: float = 0.0) -> Request:
    return Request(number, due, timeout_s, decode_s, ends.append)


def _worker_after(parameters: Parameters, rate: float) -> Worker:
    events, rng = Events(), Random(2)
    worker, due = _worker(events, parameters), 0.0
    for number in range(600):
        due += rng.expovariate(rate)
        events.at(due, worker.receive, _request(number, due, []))
    events.run()
    return worker


def _mean_latency(parameters: Parameters, rate: float, decode=lambda rng: 0.0) -> float:
    events, rng, ends = Events(), Random(5), []
    worker, due = _worker(events, parameters), 0.0
    for number in range(12_000):
        due += rng.expovariate(rate)
        events.at(due, worker.receive, _request(number, due, ends, decode_s=decode(rng)))
    events.run()
    assert all(one.end is End.ANSWERED for one in ends)
    return sum(one.latency_s for one in ends) / len(ends)
