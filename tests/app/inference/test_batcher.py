"""The twelve laws of the batcher, one test each, and what else it promises. Time is virtual: see virtual_time.py."""

import asyncio
import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.engine import Engine, EngineOptions, open_engine
from app.errors import DeadlinePassed, InferenceFailed, NotReady, QueueFull
from app.inference.admission import Limits
from app.inference.batcher import Batcher
from app.inference.permits import Permit
from app.inference.waiters import Answered
from tests.app.fakes import FakeRun, Poison, RecordingObserver
from tests.app.virtual_time import VirtualTimeLoop, clock_at, in_virtual_time, now, run_virtually

LONG_S = 1000.0
SHIPPED_FP32 = Path(__file__).resolve().parents[3] / "bundles" / "fashion-mnist" / "fp32.onnx"


class Bench:
    """A batcher over a fake run, and tasks that each submit one item."""

    def __init__(self, run: Any = None, **limits: Any) -> None:
        self.run: FakeRun = run or FakeRun()
        self.observer = RecordingObserver()
        self.batcher: Batcher[Any, Any] = Batcher(self.run, Limits(**limits), self.observer)

    def submit(self, item: Any, *, deadline: float = LONG_S) -> "asyncio.Task[Answered[Any]]":
        return asyncio.create_task(self.classify(item, deadline))

    def submit_all(self, items: Sequence[Any]) -> "list[asyncio.Task[Answered[Any]]]":
        return [self.submit(item) for item in items]

    async def classify(self, item: Any, deadline: float = LONG_S) -> Answered[Any]:
        with self.batcher.admit() as permit:
            return await permit.answer(item, deadline)

    async def waiting(self, count: int) -> None:
        await self.observer.until(lambda: self.observer.waiting == count)

    async def full(self) -> None:
        await self.observer.until(lambda: self.observer.in_flight == self.batcher._limits.queue_capacity)


async def answers_of(tasks: "list[asyncio.Task[Answered[Any]]]") -> list[Any]:
    return [answered.answer for answered in await asyncio.gather(*tasks)]


# --- the twelve laws ---


@in_virtual_time
async def test_law_01_a_free_instance_takes_what_waits_at_once() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=8)
    first = bench.submit(1)
    await bench.run.begun(1)
    assert bench.run.batches == [[1]]  # alone: nobody waited for company
    others = bench.submit_all([2, 3, 4])
    await bench.waiting(3)
    assert bench.run.batches == [[1]]  # the instance is taken
    bench.run.release()
    await bench.run.begun(2)
    assert bench.run.batches == [[1], [2, 3, 4]]  # whatever waited, in one batch
    bench.run.release()
    assert await answers_of([first, *others]) == [10, 20, 30, 40]
    assert now() == 0.0  # and no timer was needed for any of it


@in_virtual_time
async def test_law_02_the_wait_counts_from_the_first_item_and_later_arrivals_do_not_extend_it() -> None:
    bench = Bench(max_batch_size=8, max_wait_s=1.0)
    first = bench.submit(1)
    await clock_at(0.6)
    second = bench.submit(2)
    await clock_at(0.9)
    third = bench.submit(3)
    await bench.run.begun(1)
    assert now() == 1.0
    assert bench.run.batches == [[1, 2, 3]]
    await asyncio.gather(first, second, third)
    fourth = bench.submit(4)  # the next first item has a wait of its own
    await fourth
    assert now() == 2.0


@in_virtual_time
async def test_law_03_a_request_whose_client_has_gone_is_dropped_before_it_costs_compute() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=8)
    first = bench.submit(1)
    await bench.run.begun(1)
    gone, stays = bench.submit(2), bench.submit(3)
    await bench.waiting(2)
    gone.cancel()
    bench.run.release()
    await bench.run.begun(2)
    bench.run.release()
    assert await answers_of([first, stays]) == [10, 30]
    assert gone.cancelled()
    assert bench.run.batches == [[1], [3]]
    assert bench.observer.drops == [("queue", "client_gone")]


@in_virtual_time
async def test_law_04_a_future_that_is_done_is_never_set() -> None:
    """An answer, an error and the shutdown meet items whose clients have gone. The loop has nothing to complain of."""
    bench = Bench(FakeRun(gated=True, poisoned=[5]), max_batch_size=8)
    gone, late, stays = bench.submit(1), bench.submit(2, deadline=1.0), bench.submit(3)
    await bench.run.begun(1)
    gone.cancel()
    await clock_at(2.0)
    bench.run.release()
    assert (await stays).answer == 30
    culprit = bench.submit(5)
    await bench.run.begun(2)
    culprit.cancel()
    bench.run.release()
    await bench.observer.until(lambda: bench.observer.in_flight == 0)
    stuck = bench.submit(6)
    await bench.run.begun(3)
    stuck.cancel()
    await bench.batcher.close(0.0)
    assert isinstance(late.exception(), DeadlinePassed)
    assert bench.observer.drops == [("infer", "client_gone"), ("infer", "deadline"), *[("infer", "client_gone")] * 2]


@in_virtual_time
async def test_law_05_a_failed_run_is_bisected_and_only_the_culprit_fails() -> None:
    bench = Bench(FakeRun(poisoned=[3]), max_batch_size=8)
    tasks = bench.submit_all([1, 2, 3, 4, 5])
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(outcome, "answer", outcome) for outcome in outcomes if not isinstance(outcome, Poison)] == [
        10, 20, 40, 50,
    ]  # fmt: skip
    assert str(outcomes[2]) == "poisoned: [3]"
    assert bench.run.batches == [[1, 2, 3, 4, 5], [1, 2], [3, 4, 5], [3], [4, 5]]
    assert (await bench.submit(6)).answer == 60  # the batcher lives


@in_virtual_time
async def test_law_06_a_place_without_an_item_is_no_part_of_a_batch() -> None:
    """A place without an item, whose picture is still being decoded, neither holds up a batch nor is part of one."""
    bench = Bench(FakeRun(gated=True), max_batch_size=2, queue_capacity=3)
    with bench.batcher.admit() as decoding:
        others = bench.submit_all([1, 2])
        await bench.run.begun(1)
        assert bench.run.batches == [[1, 2]]
        assert (bench.observer.waiting, bench.observer.in_flight) == (0, 3)
        bench.run.release()
        assert await answers_of(others) == [10, 20]
        decoded = asyncio.ensure_future(decoding.answer(3, LONG_S))
        await bench.run.begun(2)
        assert bench.run.batches == [[1, 2], [3]]
        bench.run.release()
        assert (await decoded).answer == 30


@in_virtual_time
async def test_law_07_a_full_queue_rejects_at_once_with_a_retry_after_from_the_measured_rate() -> None:
    async def in_two_seconds(batch: list[int]) -> list[int]:
        await clock_at(now() + 2.0)
        return batch

    bench = Bench(in_two_seconds, max_batch_size=1, queue_capacity=4)
    tasks = bench.submit_all([1, 2, 3, 4])
    await bench.full()
    with pytest.raises(QueueFull) as unmeasured, bench.batcher.admit():
        pytest.fail("There was no place.")
    assert unmeasured.value.headers == {"Retry-After": "1"}
    assert now() == 0.0

    await tasks[0]
    tasks.append(bench.submit(5))
    await bench.full()
    with pytest.raises(QueueFull, match=r"4 of 4 places .* Try again in 12 s\.") as measured:
        await bench.classify(6)
    assert now() == 2.0  # one answer in 2 s: 4 pictures take 8 s, and half of the rate is promised, so one more takes 4
    assert measured.value.headers == {"Retry-After": "12"}

    await asyncio.gather(tasks[1], tasks[2])  # at 4 and 6 s
    tasks += bench.submit_all([7, 8])
    await tasks[3]
    tasks.append(bench.submit(9))
    await bench.full()
    with pytest.raises(QueueFull) as windowed:
        bench.batcher.admit_all(2)
    assert now() == 8.0  # in the last 5 s, answers at 4, 6 and 8 s: 4 pictures take 20/3 s, and 2 as promised as long
    assert windowed.value.retry_after_s == 14
    assert bench.observer.rejections == ["queue_full"] * 4
    await asyncio.gather(*tasks)


@in_virtual_time
async def test_whom_the_measured_rate_cannot_answer_in_time_is_rejected_at_once() -> None:
    async def in_one_second(batch: list[int]) -> list[int]:
        await clock_at(now() + 1.0)
        return batch

    bench = Bench(in_one_second, max_batch_size=1, queue_capacity=10)
    tasks = bench.submit_all([1, 2, 3, 4])
    await tasks[0]
    assert now() == 1.0
    # 3 are before it, at one a second, of which 0.8 are certain
    with pytest.raises(QueueFull, match=r"^3 pictures are before this one, and an answer takes about 5000 ms; "):
        bench.batcher.admit_all(1, deadline=5.9)
    assert bench.observer.rejections == ["queue_full"]
    with bench.batcher.admit_all(1, deadline=6.0)[0]:
        assert bench.observer.in_flight == 4
    await asyncio.gather(*tasks)


@in_virtual_time
@pytest.mark.parametrize("wrong", [[], [1], [1, 2, 3]])
async def test_law_08_as_many_results_as_items_or_the_error_says_this_is_a_bug(wrong: list[int]) -> None:
    calls: list[list[int]] = []

    async def run(batch: list[int]) -> list[int]:
        calls.append(batch)
        return wrong

    bench = Bench(run, max_batch_size=2)
    outcomes = await asyncio.gather(*bench.submit_all([1, 2]), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, InferenceFailed)
        assert str(outcome) == f"A run of 2 items gave {len(wrong)} answers. This is a bug."
    assert calls == [[1, 2]]  # whose answer is whose is unknown: nothing to bisect
    assert bench.observer.ran_sizes == []


@pytest.mark.parametrize("max_wait_s", [0.0, 5.0])
def test_law_09_no_polling_and_no_sleeping_in_the_loop(max_wait_s: float) -> None:
    """While a run is under way for 1000 s and others wait for it, the event loop has nothing to do."""

    async def story() -> int:
        bench = Bench(FakeRun(gated=True), max_batch_size=2, max_wait_s=max_wait_s, queue_capacity=4)
        tasks = [bench.submit(item, deadline=2 * LONG_S) for item in (1, 2, 3, 4)]
        await bench.run.begun(1)
        await bench.waiting(2)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        before = loop.turns
        await clock_at(LONG_S)
        turns = loop.turns - before
        bench.run.release()
        await bench.run.begun(2)
        bench.run.release()
        await asyncio.gather(*tasks)
        return turns

    assert run_virtually(story()) < 10


@in_virtual_time
async def test_law_10_shutdown_leaves_no_waiter_hanging() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=1, queue_capacity=4)
    running, queued = bench.submit(1), bench.submit(2)
    await bench.run.begun(1)  # and never ends
    with bench.batcher.admit() as decoding:
        closing = asyncio.create_task(bench.batcher.close(3.0))
        outcomes = await asyncio.gather(running, queued, return_exceptions=True)
        await closing
        assert now() == 3.0
        for outcome in outcomes:
            assert isinstance(outcome, NotReady)
            assert str(outcome) == "The service shut down before an answer; expected a request to another instance."
        assert outcomes[0] is not outcomes[1]  # a request with several pictures changes the words of its own
        with pytest.raises(NotReady, match="has shut down"):
            await decoding.answer(3, LONG_S)
    with pytest.raises(NotReady, match="draining"):
        bench.batcher.admit()
    assert bench.run.batches == [[1]]
    assert bench.run.cancelled == 1
    assert (bench.observer.waiting, bench.observer.in_flight) == (0, 0)


@in_virtual_time
async def test_law_11_what_passed_its_deadline_is_not_run() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=8)
    first = bench.submit(1)
    await bench.run.begun(1)
    late, stays = bench.submit(2, deadline=5.0), bench.submit(3)
    with pytest.raises(DeadlinePassed, match="not classified before its deadline"):
        await late
    assert now() == 5.0
    bench.run.release()
    await bench.run.begun(2)
    bench.run.release()
    assert await answers_of([first, stays]) == [10, 30]
    assert bench.run.batches == [[1], [3]]
    with pytest.raises(DeadlinePassed):
        await bench.classify(4, deadline=now())  # before its timer has had its turn
    assert bench.run.batches == [[1], [3]]
    assert bench.observer.drops == [("queue", "deadline")] * 2


def _shipped() -> Engine:
    if not SHIPPED_FP32.is_file():
        pytest.skip("bundles/fashion-mnist has no fp32.onnx")
    return open_engine(EngineOptions(SHIPPED_FP32, provider="cpu", instances=1, max_batch_size=1))


@pytest.mark.parametrize("which", ["toy", "shipped"])
async def test_law_12_the_same_picture_gets_the_same_answer_alone_and_in_any_batch(which: str, engine: Engine) -> None:
    engine = engine if which == "toy" else _shipped()
    spec = engine.spec
    generator = np.random.default_rng(12)
    crowd = list(generator.integers(0, 256, (33, spec.num_patches, spec.patch_bytes), dtype=np.uint8))

    async def run(batch: list[Any]) -> list[Any]:
        return list(engine.run(batch).logits)

    async def logits(images: list[Any]) -> list[Any]:
        bench = Bench(run, max_batch_size=len(images))
        answered = await asyncio.gather(*(bench.classify(image, deadline=float("inf")) for image in images))
        assert bench.observer.ran_sizes == [len(images)]
        return [one.answer for one in answered]

    (alone,) = await logits(crowd[:1])
    tolerance = 1e-5 * (alone.max() - alone.min())
    for size in (2, 3, 8, 17, 33):
        for position in {0, size // 2, size - 1}:
            images = crowd[1:size]
            images.insert(position, crowd[0])
            answers = await logits(images)
            assert np.abs(answers[position] - alone).max() <= tolerance


# --- order, sizes, instances ---


@in_virtual_time
async def test_first_come_first_served_and_no_batch_is_larger_than_the_limit() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=3)
    tasks = bench.submit_all(range(8))
    for count in (1, 2, 3):
        await bench.run.begun(count)
        bench.run.release()
    assert await answers_of(tasks) == [item * 10 for item in range(8)]
    assert bench.run.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert bench.observer.ran_sizes == [3, 3, 2]


@in_virtual_time
async def test_instances_run_side_by_side_and_each_takes_more_as_soon_as_it_is_free() -> None:
    bench = Bench(FakeRun(gated=True), instances=2, max_batch_size=1)
    tasks = bench.submit_all([1, 2, 3])
    await bench.run.begun(2)
    assert bench.run.active == 2
    assert bench.run.batches == [[1], [2]]
    bench.run.release()
    await bench.run.begun(3)
    assert bench.run.most_active == 2
    bench.run.release(2)
    assert await answers_of(tasks) == [10, 20, 30]


@in_virtual_time
async def test_a_full_batch_does_not_wait_for_the_timer() -> None:
    bench = Bench(max_batch_size=2, max_wait_s=5.0)
    tasks = bench.submit_all([1, 2, 3])
    assert await answers_of(tasks[:2]) == [10, 20]
    assert now() == 0.0
    await tasks[2]  # alone, it waits
    assert now() == 5.0
    assert bench.run.batches == [[1, 2], [3]]


@in_virtual_time
async def test_an_item_whose_wait_ended_while_the_instance_was_taken_runs_as_soon_as_it_is_free() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=2, max_wait_s=1.0)
    first = bench.submit(1)
    await bench.run.begun(1)
    second = bench.submit(2)
    await clock_at(7.0)
    bench.run.release()
    await bench.run.begun(2)
    assert now() == 7.0
    bench.run.release()
    await asyncio.gather(first, second)


@in_virtual_time
async def test_when_the_first_item_leaves_the_timer_counts_from_the_next() -> None:
    bench = Bench(max_batch_size=8, max_wait_s=1.0)
    first = bench.submit(1)
    await clock_at(0.5)
    second = bench.submit(2)
    await bench.waiting(2)
    first.cancel()
    await second
    assert now() == 1.5
    assert bench.run.batches == [[2]]


@in_virtual_time
async def test_an_answer_says_how_long_it_took_and_in_what_company() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=8)
    first = bench.submit(1)
    await bench.run.begun(1)
    others = bench.submit_all([2, 3])
    await clock_at(2.0)
    bench.run.release()
    await bench.run.begun(2)
    await clock_at(5.0)
    bench.run.release()
    assert await first == Answered(10, queue_s=0.0, infer_s=2.0, batch_size=1)
    assert await others[1] == Answered(30, queue_s=2.0, infer_s=3.0, batch_size=2)


# --- failures ---


@in_virtual_time
async def test_every_culprit_of_a_batch_fails_with_its_own_error() -> None:
    bench = Bench(FakeRun(poisoned=[0, 3, 4]), max_batch_size=8)
    outcomes = await asyncio.gather(*bench.submit_all(range(8)), return_exceptions=True)
    failed = {index: str(outcome) for index, outcome in enumerate(outcomes) if isinstance(outcome, Poison)}
    assert failed == {0: "poisoned: [0]", 3: "poisoned: [3]", 4: "poisoned: [4]"}
    assert sum(bench.observer.ran_sizes) == 5  # only runs that gave answers are counted


@in_virtual_time
async def test_bisection_leaves_out_those_whose_clients_have_gone_meanwhile() -> None:
    bench = Bench(FakeRun(gated=True, poisoned=[1]), max_batch_size=4)
    tasks = bench.submit_all([1, 2, 3, 4])
    await bench.run.begun(1)
    tasks[2].cancel()
    tasks[3].cancel()
    await bench.observer.until(lambda: len(bench.observer.drops) == 2)
    for count in (1, 2, 3):
        bench.run.release()
        await bench.run.begun(count + 1)
    bench.run.release()
    assert (await tasks[1]).answer == 20
    assert isinstance(tasks[0].exception(), Poison)
    assert bench.run.batches == [[1, 2, 3, 4], [1, 2], [1], [2]]


@in_virtual_time
async def test_a_timeout_inside_the_run_is_the_runs_failure_and_not_the_items_deadline() -> None:
    async def run(batch: list[int]) -> list[int]:
        raise TimeoutError("the device did not answer")

    bench = Bench(run)
    with pytest.raises(TimeoutError, match="the device did not answer"):
        await bench.classify(1)
    assert bench.observer.drops == []


@in_virtual_time
async def test_who_is_told_of_a_run_holds_up_no_answer_and_hears_before_anyone_goes_on() -> None:
    told: list[list[bool]] = []
    batcher: Batcher[Any, Any] = Batcher(
        FakeRun(), Limits(max_batch_size=8), RecordingObserver(),
        on_traced_run=lambda batch, *_: told.append([waiter.future.done() for waiter in batch]),
    )  # fmt: skip
    with batcher.admit() as permit:
        await permit.answer(1, LONG_S)
        assert told == [[True]]


# --- places ---


@in_virtual_time
async def test_a_place_is_given_back_on_every_path() -> None:
    bench = Bench(FakeRun(gated=True, poisoned=[2]), max_batch_size=1, queue_capacity=1)
    answered = bench.submit(1)
    await bench.run.begun(1)
    bench.run.release()
    await answered
    failed = bench.submit(2)
    await bench.run.begun(2)
    bench.run.release()
    with pytest.raises(Poison):
        await failed
    cancelled = bench.submit(3)
    await bench.run.begun(3)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(DeadlinePassed):
        await bench.classify(4, deadline=1.0)
    with pytest.raises(ZeroDivisionError), bench.batcher.admit():
        raise ZeroDivisionError  # decoding failed
    assert bench.observer.in_flight == 0
    assert bench.observer.most_in_flight == 1


@in_virtual_time
async def test_idle_time_does_not_count_in_the_measured_rate() -> None:
    async def in_one_second(batch: list[int]) -> list[int]:
        await clock_at(now() + 1.0)
        return batch

    bench = Bench(in_one_second, max_batch_size=1, queue_capacity=2)
    await bench.classify(1)
    await clock_at(100.0)
    tasks = bench.submit_all([2, 3])
    await tasks[0]
    tasks.append(bench.submit(4))
    await bench.full()
    with pytest.raises(QueueFull) as refused:
        bench.batcher.admit()
    assert refused.value.retry_after_s == 4  # 2 and a promised one at one a second, not one in a hundred
    await asyncio.gather(*tasks)


# --- items on their way ---


@in_virtual_time
async def test_a_permit_lapses_a_quarter_of_a_second_later_unless_its_item_is_here() -> None:
    bench = Bench()
    slow, quick = bench.batcher.admit(here=False), bench.batcher.admit(here=False)
    await clock_at(0.24)
    assert quick.arrive()
    assert bench.observer.in_flight == 2
    await clock_at(0.25)
    assert bench.observer.in_flight == 1
    await clock_at(10)
    assert not slow.arrive()
    slow.release()
    assert bench.observer.in_flight == 1
    quick.release()
    assert bench.observer.in_flight == 0


@in_virtual_time
async def test_time_in_which_the_event_loop_stands_still_lets_no_permit_lapse() -> None:
    bench = Bench()
    permit, loop = bench.batcher.admit(here=False), asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.now_s += 5
    for _ in range(5):  # turns, in which what arrived meanwhile is read
        await asyncio.sleep(0)
    assert permit.arrive()
    permit.release()
    assert bench.observer.in_flight == 0


@in_virtual_time
async def test_a_batcher_that_has_closed_is_held_by_no_permit_that_it_gave() -> None:
    batcher: Batcher[int, int] = Batcher(FakeRun(), Limits(), RecordingObserver())
    permit = batcher.admit(here=False)
    permit.release()
    await batcher.close(1.0)
    gone = weakref.ref(batcher)
    gc.disable()
    try:
        del permit, batcher
        assert gone() is None
    finally:
        gc.enable()


# --- shutdown ---


@in_virtual_time
async def test_a_drain_serves_those_who_hold_a_place_and_ends_as_soon_as_they_are_served() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=1)
    running, queued = bench.submit_all([1, 2])
    with bench.batcher.admit() as permit:
        await bench.run.begun(1)
        closing = asyncio.create_task(bench.batcher.close(60.0))
        decoded = asyncio.ensure_future(permit.answer(3, LONG_S))
        for count in (1, 2, 3):
            await bench.run.begun(count)
            bench.run.release()
        assert await answers_of([running, queued, decoded]) == [10, 20, 30]
        assert not closing.done()  # one place is still held
    await closing
    assert now() == 0.0
    with pytest.raises(NotReady):
        bench.batcher.admit()
    assert bench.observer.rejections == ["draining"]


@in_virtual_time
async def test_shutdown_fails_every_item_of_a_batch_that_is_being_bisected() -> None:
    bench = Bench(FakeRun(gated=True, poisoned=[1]), max_batch_size=4)
    tasks = bench.submit_all([1, 2, 3, 4])
    await bench.run.begun(1)
    bench.run.release()
    await bench.run.begun(2)
    await bench.batcher.close(1.0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotReady] * 4


@in_virtual_time
async def test_closing_forgets_a_batch_that_waited_for_company() -> None:
    bench = Bench(max_batch_size=8, max_wait_s=50.0)
    waits = bench.submit(1)
    await bench.waiting(1)
    await bench.batcher.close(2.0)
    with pytest.raises(NotReady):
        await waits
    await clock_at(100.0)
    assert bench.run.batches == []


# --- everything at once ---


@dataclass(frozen=True)
class Visit:
    """One client: when it comes, how long it is willing to wait, when it hangs up, whether its item breaks a run."""

    arrives: float
    patience_s: float
    hangs_up_after_s: float | None
    poisoned: bool


@dataclass
class Log:
    """What the runs saw. started: (time, items), bisection included."""

    started: list[tuple[float, list[int]]] = field(default_factory=list)
    active: int = 0
    most_active: int = 0


_moments = st.integers(0, 40).map(lambda tenths: tenths / 10)
_visits = st.builds(
    Visit,
    arrives=_moments,
    patience_s=st.integers(1, 80).map(lambda tenths: tenths / 10 + 0.03),  # never at the very moment of something else
    hangs_up_after_s=st.none() | st.integers(0, 40).map(lambda tenths: tenths / 10 + 0.06),
    poisoned=st.sampled_from([False, False, False, True]),
)
_limits = st.builds(
    Limits,
    instances=st.integers(1, 3),
    max_batch_size=st.integers(1, 4),
    max_wait_s=st.sampled_from([0.0, 0.4]),
    queue_capacity=st.integers(1, 12),
)


@settings(deadline=None, max_examples=120)
@given(st.lists(_visits, max_size=16), _limits, st.sampled_from([0.0, 0.3, 1.1]), st.sampled_from([None, 2.07]))
def test_every_item_ends_in_exactly_one_outcome_whatever_happens(
    visits: list[Visit], limits: Limits, run_s: float, closes_at: float | None
) -> None:
    run_virtually(_live_through(visits, limits, run_s, closes_at))


async def _live_through(visits: list[Visit], limits: Limits, run_s: float, closes_at: float | None) -> None:
    log, observer = Log(), RecordingObserver()

    async def run(batch: list[int]) -> list[int]:
        log.started.append((now(), batch))
        log.active += 1
        log.most_active = max(log.most_active, log.active)
        try:
            if run_s:
                await clock_at(now() + run_s)
        finally:
            log.active -= 1
        if any(visits[item].poisoned for item in batch):
            raise Poison
        return [item * 10 for item in batch]

    batcher: Batcher[int, int] = Batcher(run, limits, observer)
    clients = [asyncio.create_task(_visit(batcher, index, visit)) for index, visit in enumerate(visits)]
    if closes_at is not None:
        await clock_at(closes_at)
        await batcher.close(1.0)
    outcomes = await asyncio.gather(*clients)
    await clock_at(now() + 100.0)  # whatever nobody waited for has ended, too

    for index, (visit, outcome) in enumerate(zip(visits, outcomes, strict=True)):
        starts = [at for at, batch in log.started if index in batch]
        assert all(at < visit.arrives + visit.patience_s for at in starts)  # law 11
        if visit.hangs_up_after_s is not None:
            assert all(at < visit.arrives + visit.hangs_up_after_s for at in starts)  # law 3
        assert outcome != "failed" or visit.poisoned  # law 5
        assert outcome != "answered" or not visit.poisoned
        assert outcome in ("answered", "failed", "late", "gone", "refused", "shut down")
        assert starts or outcome not in ("answered", "failed")
    assert all(len(batch) <= limits.max_batch_size for _, batch in log.started)
    assert log.most_active <= limits.instances
    assert observer.most_in_flight <= limits.queue_capacity
    assert (observer.waiting, observer.in_flight) == (0, 0)
    assert len(observer.drops) == outcomes.count("late") + outcomes.count("gone")
    if closes_at is None:
        assert len(observer.rejections) == outcomes.count("refused")
        assert "shut down" not in outcomes
        assert sum(observer.ran_sizes) >= outcomes.count("answered")
    assert log.active == 0
    first_starts = dict.fromkeys(item for _, batch in log.started for item in batch)
    arrivals = [visits[item].arrives for item in first_starts]
    assert arrivals == sorted(arrivals)  # first come, first served


async def _visit(batcher: Batcher[int, int], index: int, visit: Visit) -> str:
    """What became of one item."""
    await clock_at(visit.arrives)
    try:
        async with asyncio.timeout(visit.hangs_up_after_s):  # hangs up: the request is cancelled
            return await _outcome(batcher, index, visit)
    except TimeoutError:
        return "gone"


async def _outcome(batcher: Batcher[int, int], index: int, visit: Visit) -> str:
    try:
        with batcher.admit() as permit:
            return await _answer(permit, index, visit)
    except QueueFull:
        return "refused"
    except NotReady:
        return "shut down"
    except DeadlinePassed:
        return "late"
    except Poison:
        return "failed"


async def _answer(permit: Permit[int, int], index: int, visit: Visit) -> str:
    answered = await permit.answer(index, visit.arrives + visit.patience_s)
    assert answered.answer == index * 10
    return "answered"


@in_virtual_time
async def test_where_runs_have_been_too_slow_for_everybody_each_is_tried_all_the_same() -> None:
    """One run of an hour must not mean that nobody is run again."""
    takes_s = iter([3600.0, 0.1, 0.1, 0.1])

    async def run(batch: list[int]) -> list[int]:
        await clock_at(now() + next(takes_s))
        return batch

    bench = Bench(run, max_batch_size=1)
    await bench.submit(1, deadline=5000.0)
    tasks = [bench.submit(number, deadline=now() + 100.0) for number in (2, 3, 4)]
    assert [(await task).answer for task in tasks] == [2, 3, 4]
    assert bench.observer.drops == []


@in_virtual_time
async def test_what_a_run_would_answer_too_late_is_left_for_those_whom_it_would_not() -> None:
    async def in_two_seconds(batch: list[int]) -> list[int]:
        await clock_at(now() + 2.0)
        return batch

    bench = Bench(in_two_seconds, max_batch_size=1)
    for number in range(30):
        await bench.submit(number)  # so that it is known how long a run takes
    first = bench.submit(100)
    late, in_time = bench.submit(101, deadline=now() + 3.0), bench.submit(102, deadline=now() + 60.0)
    await asyncio.wait([first, in_time])
    assert in_time.result().answer == 102
    with pytest.raises(DeadlinePassed):
        await late
    assert bench.observer.drops == [("queue", "deadline")]


@in_virtual_time
async def test_a_shutdown_does_not_leave_those_hanging_whom_no_run_could_answer_in_time() -> None:
    async def in_two_seconds(batch: list[int]) -> list[int]:
        await clock_at(now() + 2.0)
        return batch

    bench = Bench(in_two_seconds, max_batch_size=1)
    for number in range(60):
        await bench.submit(number)
    first, late, other = bench.submit(100), bench.submit(101, deadline=now() + 3.9), bench.submit(102)
    await first
    await asyncio.wait([late], timeout=0.5)
    assert not late.done()  # it was passed over for the other
    await bench.batcher.close(0.5)
    for task in (late, other):
        with pytest.raises(NotReady):
            await task
