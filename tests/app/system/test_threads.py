"""Threads that run calls for the event loop, one at a time each and in order."""

import asyncio
import threading
import weakref
from collections.abc import Iterator

import pytest

from app.system.threads import Threads
from tests.app.servers import PATIENCE_S


class Odd(BaseException):
    """Not even an Exception."""


class Parcel:
    """Something that can be watched by a weak reference."""


@pytest.fixture
def threads() -> Iterator[Threads]:
    pool = Threads(1, "test-worker")
    yield pool
    pool.stop()


def _workers(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


async def test_a_call_runs_in_a_thread_of_its_own_and_gives_its_value(threads: Threads) -> None:
    def work(left: int, *, right: int) -> tuple[str, int]:
        return threading.current_thread().name, left - right

    assert await threads.call(work, 5, right=3) == ("test-worker-0", 2)


@pytest.mark.parametrize("error", [ValueError("no"), Odd("not even an Exception")])
async def test_an_error_belongs_to_the_caller_and_the_thread_lives_on(threads: Threads, error: BaseException) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await threads.call(work)
    assert raised.value is error
    assert await threads.call(int, "7") == 7


async def test_a_stop_iteration_reaches_the_caller_too(threads: Threads) -> None:
    """A future refuses to hold one; the caller must not wait for ever because of that."""
    with pytest.raises((RuntimeError, StopIteration)):
        async with asyncio.timeout(PATIENCE_S):
            await threads.call(next, iter(()))


async def test_calls_run_in_order_one_at_a_time(threads: Threads) -> None:
    order: list[int] = []
    await asyncio.gather(*(threads.call(order.append, number) for number in range(20)))
    assert order == list(range(20))


async def test_patient_calls_are_overtaken_but_not_for_ever(threads: Threads) -> None:
    gate, order = threading.Event(), []
    first = threads.submit(lambda: gate.wait(60))
    large = [threads.submit(lambda: order.append("large"), patient=True) for _ in range(2)]
    small = [threads.submit(lambda: order.append("small")) for _ in range(120)]
    gate.set()
    await asyncio.gather(first, *large, *small)
    assert len(order) == 122
    assert order[:40] == ["small"] * 40  # they came later
    assert order.index("large") <= 60
    assert order.index("large", order.index("large") + 1) <= 120


async def test_patient_calls_of_different_clients_take_turns(threads: Threads) -> None:
    gate, order = threading.Event(), []
    first = threads.submit(lambda: gate.wait(60))
    sent = ["a"] * 4 + ["b"] * 2 + ["c"]
    calls = [
        threads.submit(lambda client=client: order.append(client), patient=True, client=client)  # type: ignore[misc]
        for client in sent
    ]
    calls += [threads.submit(lambda: order.append("alone"), patient=True) for _ in range(2)]
    gate.set()
    await asyncio.gather(first, *calls)
    assert order == ["a", "b", "c", "alone", "alone", "a", "b", "a", "a"]


async def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    pool = Threads(3, "three")
    meeting = threading.Barrier(3, timeout=30)
    try:
        await asyncio.gather(*(pool.call(meeting.wait) for _ in range(3)))
    finally:
        pool.stop()


async def test_a_call_cancelled_before_its_turn_does_not_run(threads: Threads) -> None:
    gate, ran = threading.Event(), []
    first = asyncio.create_task(threads.call(gate.wait, 60))
    second = asyncio.create_task(threads.call(ran.append, "second"))
    third = asyncio.create_task(threads.call(ran.append, "third"))
    entered = asyncio.Event()
    asyncio.get_running_loop().call_soon(entered.set)
    await entered.wait()  # all three are queued
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await asyncio.gather(first, third)
    assert ran == ["third"]


async def test_the_answer_to_a_call_cancelled_during_its_run_is_thrown_away(threads: Threads) -> None:
    loop, entered, gate = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work() -> None:
        loop.call_soon_threadsafe(entered.set)
        gate.wait(60)

    task = asyncio.create_task(threads.call(work))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await threads.call(int, "7") == 7


def test_a_thread_outlives_the_event_loop_it_worked_for(threads: Threads) -> None:
    gate, left = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(60)
        left.set()

    async def give_up() -> None:
        entered = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(threads.call(lambda: (loop.call_soon_threadsafe(entered.set), work())))
        await entered.wait()
        task.cancel()

    async def again() -> int:
        return await threads.call(int, "7")

    asyncio.run(give_up())
    gate.set()
    assert left.wait(30)
    assert asyncio.run(again()) == 7


async def test_an_idle_thread_keeps_nothing_alive(threads: Threads) -> None:
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    parcel = Parcel()
    weakref.finalize(parcel, loop.call_soon_threadsafe, gone.set)
    await threads.call(id, parcel)
    del parcel
    await gone.wait()


async def test_stop_ends_every_thread_after_what_is_queued() -> None:
    pool = Threads(2, "ending")
    workers = _workers("ending")
    assert len(workers) == 2
    assert all(worker.daemon for worker in workers)
    last = asyncio.create_task(pool.call(int, "7"))
    assert await last == 7
    pool.stop()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()


async def entered(threads: Threads, gate: threading.Event, **options: int) -> "asyncio.Future[object]":
    """A call that has begun, and goes on until the gate opens."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def work() -> object:
        loop.call_soon_threadsafe(begun.set)
        return gate.wait(PATIENCE_S)

    future = threads.submit(work, **options)
    await begun.wait()
    return future


async def test_what_is_under_way_is_seen_with_its_thread_and_size_until_it_ends(threads: Threads) -> None:
    gate = threading.Event()
    assert list(threads.under_way()) == []
    future = await entered(threads, gate, payload_bytes=77)
    (call,) = threads.under_way()
    assert (call.thread.name, call.payload_bytes) == ("test-worker-0", 77)
    assert list(threads.under_way()) == [call]
    assert threads.native_ids() == [call.thread.native_id]
    gate.set()
    await future
    assert list(threads.under_way()) == []


async def test_an_abandoned_call_gets_its_error_at_once_and_another_thread_does_what_waits(threads: Threads) -> None:
    gate = threading.Event()
    future = await entered(threads, gate)
    behind = threads.submit(lambda: threading.current_thread().name)
    (call,) = threads.under_way()
    threads.abandon(call, ValueError("too long"))
    with pytest.raises(ValueError, match="too long"):
        await future
    async with asyncio.timeout(PATIENCE_S):
        assert await behind == "test-worker-1"
    assert len(threads.native_ids()) == 2
    gate.set()  # what it returns in the end is nobody's
    assert await threads.call(int, "7") == 7


async def test_what_was_done_right_before_a_call_that_is_abandoned_is_handed_over(threads: Threads) -> None:
    gate, began, endless = threading.Event(), threading.Event(), threading.Event()
    await entered(threads, gate)
    quick = threads.submit(lambda: "done")
    stuck = threads.submit(lambda: (began.set(), endless.wait()))
    gate.set()
    await asyncio.to_thread(began.wait, PATIENCE_S)
    (call,) = threads.under_way()
    threads.abandon(call, ValueError("too long"))
    async with asyncio.timeout(PATIENCE_S):
        assert await quick == "done"
    with pytest.raises(ValueError, match="too long"):
        await stuck
    endless.set()


async def test_what_is_done_does_not_wait_for_a_patient_call(threads: Threads) -> None:
    gate, endless = threading.Event(), threading.Event()
    await entered(threads, gate)
    patient = threads.submit(endless.wait, patient=True)
    quick = threads.submit(lambda: "done")
    gate.set()
    async with asyncio.timeout(PATIENCE_S):
        assert await quick == "done"
    assert not patient.done()
    endless.set()
    assert await patient


async def test_a_call_that_has_ended_meanwhile_is_not_abandoned_nor_is_the_next_one(threads: Threads) -> None:
    first, second = threading.Event(), threading.Event()
    future = await entered(threads, first)
    (call,) = threads.under_way()
    first.set()
    assert await future
    threads.abandon(call, ValueError("too long"))
    future = await entered(threads, second)
    threads.abandon(call, ValueError("too long"))
    assert not future.done()
    assert threads.count == 1
    second.set()
    assert await future


async def test_they_are_stalled_for_as_long_as_each_is_in_one_call() -> None:
    pool, gate = Threads(2, "stalling"), threading.Event()
    first = await entered(pool, gate)
    assert pool.stalled_s() == 0.0
    second = await entered(pool, gate)
    assert 0 < pool.stalled_s() < pool.longest_s()
    (call, _) = pool.under_way()
    pool.abandon(call, ValueError("too long"))
    assert pool.stalled_s() == 0.0  # another one is free
    gate.set()
    await asyncio.gather(first, second, return_exceptions=True)
    assert pool.stalled_s() == 0.0
    pool.stop()
