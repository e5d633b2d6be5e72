"""Work in the background of a batcher: everything else goes before it. Time is virtual."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest

from app.errors import DeadlinePassed, NotReady, QueueFull
from app.inference.admission import Admission
from app.system.quota import Quota
from tests.app.fakes import FakeRun
from tests.app.inference.test_admission import measured
from tests.app.inference.test_batcher import LONG_S, Bench, answers_of
from tests.app.virtual_time import clock_at, in_virtual_time


async def _in_background(bench: Bench, items: Sequence[Any], deadline: float = LONG_S) -> list[Any]:
    with bench.batcher.admit_in_background(len(items), deadline) as permits:
        return [one.answer for one in await asyncio.gather(*permits.answers(items, deadline))]


@in_virtual_time
async def test_it_runs_in_small_batches_where_nothing_else_waits() -> None:
    bench = Bench(max_batch_size=8)
    assert bench.batcher.background_batch_size == 2
    assert await _in_background(bench, [1, 2, 3, 4, 5]) == [10, 20, 30, 40, 50]
    assert bench.run.batches == [[1, 2], [3, 4], [5]]


@in_virtual_time
async def test_what_comes_meanwhile_goes_before_the_rest_of_it() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4)
    background = asyncio.create_task(_in_background(bench, [1, 2, 3]))
    await bench.run.begun(1)
    images = bench.submit_all([7, 8])
    await bench.waiting(4)  # with two of the background
    for count in range(2, 5):
        bench.run.release()
        await bench.run.begun(count)
    assert bench.run.batches == [[1], [7, 8], [2], [3]]  # one small run was before the images, and no other
    bench.run.release()
    assert await background == [10, 20, 30]
    assert await answers_of(images) == [70, 80]


@in_virtual_time
async def test_every_instance_may_run_it() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4, instances=2)
    background = asyncio.create_task(_in_background(bench, [1, 2, 3]))
    await bench.run.begun(2)
    assert bench.run.batches == [[1], [2]]
    bench.run.release(2)
    await bench.run.begun(3)
    bench.run.release()
    assert await background == [10, 20, 30]


@in_virtual_time
async def test_images_that_wait_for_company_leave_their_instance_free_of_it() -> None:
    bench = Bench(max_batch_size=4, max_wait_s=1.0)
    image = bench.submit(7)
    await bench.waiting(1)
    background = asyncio.create_task(_in_background(bench, [1]))
    await bench.run.begun(1)
    assert bench.run.batches == [[7]]
    assert await answers_of([image]) == [70]
    assert await background == [10]


@in_virtual_time
async def test_it_holds_an_eighth_of_the_queue_at_most_and_gives_back_what_it_needs_no_more() -> None:
    bench = Bench(queue_capacity=32)
    with bench.batcher.admit_in_background(100) as permits:
        assert (permits.held, bench.observer.in_flight) == (4, 4)
        permits.keep(50)
        assert permits.held == 4
        permits.keep(1)
        assert (permits.held, bench.observer.in_flight) == (1, 1)
    assert bench.observer.in_flight == 0


@in_virtual_time
async def test_all_of_it_together_has_half_of_the_queue_and_images_have_the_rest() -> None:
    bench = Bench(queue_capacity=32)
    for _ in range(4):
        bench.batcher.admit_in_background(100)
    with pytest.raises(QueueFull, match="16 of 16 places in the queue that explanations and streams may have"):
        bench.batcher.admit_in_background(1)
    for _ in range(16):
        bench.batcher.admit()
    with pytest.raises(QueueFull, match="32 of 32 places in the queue are taken"):
        bench.batcher.admit()
    assert bench.observer.rejections == ["queue_full"]  # whoever asks in the background counts it itself


@in_virtual_time
async def test_where_the_queue_is_full_it_is_refused_and_nobody_else_is_told_to_wait_longer() -> None:
    bench = Bench(queue_capacity=16)
    for _ in range(16):
        bench.batcher.admit()
    for _ in range(100):
        with pytest.raises(QueueFull, match="expected room for 2") as refused:
            bench.batcher.admit_in_background(2)
        assert refused.value.retry_after_s == 1
    with pytest.raises(QueueFull) as refused:
        bench.batcher.admit()
    assert refused.value.retry_after_s == 1
    assert bench.observer.in_flight == 16


@in_virtual_time
async def test_what_is_late_fails_by_itself_and_is_no_picture_that_was_dropped() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4)
    background = asyncio.create_task(_in_background(bench, [1, 2, 3], deadline=2.0))
    await bench.run.begun(1)
    await clock_at(3.0)
    with pytest.raises(DeadlinePassed):
        await background
    bench.run.release()
    await bench.waiting(0)
    assert bench.run.batches == [[1]]
    assert bench.observer.drops == []
    assert bench.observer.in_flight == 0


@in_virtual_time
async def test_whoever_leaves_takes_the_rest_with_them() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4)
    background = asyncio.create_task(_in_background(bench, [1, 2, 3]))
    await bench.run.begun(1)
    background.cancel()
    await bench.waiting(0)
    bench.run.release()
    image = bench.submit(7)
    await bench.run.begun(2)
    bench.run.release()
    assert await answers_of([image]) == [70]
    assert bench.run.batches == [[1], [7]]


@in_virtual_time
async def test_a_drain_waits_for_it_and_fails_it_when_its_time_is_over() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4)
    background = asyncio.create_task(_in_background(bench, [1, 2]))
    await bench.run.begun(1)
    closing = asyncio.create_task(bench.batcher.close(5.0))
    await clock_at(1.0)
    assert not closing.done()
    with pytest.raises(NotReady):
        bench.batcher.admit_in_background(1)
    await closing
    with pytest.raises(NotReady):
        await background


# --- admission, where times are numbers ---


def test_it_counts_against_the_room_and_not_against_the_rate() -> None:
    admission = measured(capacity=10, rate=10)
    while admission.taken:
        admission.release(100.0)
    admission.take_in_background(5, 5, 100.0, math.inf)
    assert (admission.taken, admission.inside) == (0, 5)
    admission.take(1, 100.0, deadline=100.2)  # ten a second, and those five are behind it
    admission.release(100.0)
    admission.release_in_background(5)
    assert admission.inside == 0


def test_all_of_its_items_have_to_be_answered_in_time() -> None:
    admission = measured(capacity=10, rate=10)
    while admission.taken > 1:
        admission.release(100.0)
    with pytest.raises(QueueFull, match="1 pictures are before these 50 runs, which take about 6375 ms with them"):
        admission.take_in_background(5, 50, 100.0, 104.0)
    assert admission.inside == 1
    admission.take_in_background(5, 50, 100.0, 107.0)
    assert admission.inside == 6


def test_its_places_are_those_of_all_who_share_them() -> None:
    permits, background = Quota(16), Quota(8)
    one, other = Admission(permits, 2, background), Admission(permits, 2, background)
    one.take_in_background(6, 6, 0.0, math.inf)
    with pytest.raises(QueueFull, match="6 of 8 places"):
        other.take_in_background(3, 3, 0.0, math.inf)
    one.release_in_background(6)
    other.take_in_background(3, 3, 0.0, math.inf)
    assert (permits.taken, background.taken) == (3, 3)
    one.take(13, 0.0)
    with pytest.raises(QueueFull, match="16 of 16 places in the queue are taken"):
        one.take_in_background(1, 1, 0.0, math.inf)
    assert background.taken == 3


@in_virtual_time
async def test_spare_time_begins_when_nothing_waits_or_runs_and_nobody_is_inside() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4)
    await bench.batcher.until_free(1)  # at once
    images = bench.submit_all([1, 2, 3, 4, 5])
    free = asyncio.create_task(bench.batcher.until_free(1))
    for count in (1, 2):
        await bench.run.begun(count)
        assert not free.done()
        bench.run.release()
    assert await answers_of(images) == [10, 20, 30, 40, 50]
    await free


@in_virtual_time
async def test_spare_time_is_there_while_fewer_are_inside_than_instances_could_run() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4, instances=2)
    images = bench.submit_all([1])
    await bench.run.begun(1)
    await bench.batcher.until_free(2)  # the other instance is idle
    more = bench.submit_all([2])
    free = asyncio.create_task(bench.batcher.until_free(2))
    await bench.run.begun(2)
    assert not free.done()
    bench.run.release()
    await free
    bench.run.release()
    assert await answers_of(images + more) == [10, 20]


@in_virtual_time
async def test_spare_time_comes_after_explanations_too() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4)
    background = asyncio.create_task(_in_background(bench, [1, 2]))
    await bench.run.begun(1)
    free = asyncio.create_task(bench.batcher.until_free(1))
    bench.run.release()
    await bench.run.begun(2)
    assert not free.done()
    bench.run.release()
    await background
    await free


@in_virtual_time
async def test_who_no_longer_waits_for_spare_time_is_not_told() -> None:
    bench = Bench(FakeRun(gated=True))
    images = bench.submit_all([1])
    await bench.run.begun(1)
    free = asyncio.create_task(bench.batcher.until_free(1))
    await asyncio.sleep(0)
    free.cancel()
    bench.run.release()
    assert await answers_of(images) == [10]
    await bench.batcher.until_free(1)


@in_virtual_time
async def test_what_is_run_in_spare_time_holds_no_permit_and_goes_behind_all_others() -> None:
    bench = Bench(FakeRun(gated=True), max_batch_size=4, queue_capacity=1)
    with bench.batcher.in_spare_time() as permits:
        spare = permits.answers([1, 2], LONG_S)
        assert bench.batcher.admission.inside == 0
        await bench.run.begun(1)
        images = bench.submit_all([7])
        for count in (2, 3):
            bench.run.release()
            await bench.run.begun(count)
        bench.run.release()
        assert [one.answer for one in await asyncio.gather(*spare)] == [10, 20]
    assert bench.run.batches == [[1], [7], [2]]
    assert await answers_of(images) == [70]


@in_virtual_time
async def test_there_is_no_spare_time_at_the_end() -> None:
    bench = Bench()
    await bench.batcher.close(0)
    with pytest.raises(NotReady):
        bench.batcher.in_spare_time()
