"""A decode counts by the processor time of its thread; the first that takes too much begins the end of its process."""

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.decoding.cost_checks import DecodeBudget
from app.engine.engine import Engine
from app.errors import BadImage, NotReady
from app.serving import overruns as module
from app.serving.health import Health
from app.serving.overruns import Overruns, OverrunWatch, processor_s
from app.system.quota import Quota
from app.system.threads import Threads
from app.system.worker_context import WorkerContext
from tests.app.served_models import Shop, shop_of
from tests.app.servers import PATIENCE_S


class Clock:
    """What each thread has spent, by hand."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def __call__(self, thread: threading.Thread) -> float:
        return 1000 + self.spent_s


class Calls:
    """Calls that each wait in a thread of their own until they are let go."""

    def __init__(self, count: int = 1) -> None:
        self.threads = Threads(count, "decode")
        self._loop = asyncio.get_running_loop()
        self._gate = threading.Event()

    async def begin(self, payload_bytes: int = 0) -> "asyncio.Future[None]":
        entered = asyncio.Event()

        def work() -> None:
            self._loop.call_soon_threadsafe(entered.set)
            self._gate.wait(PATIENCE_S)

        future = self.threads.submit(work, payload_bytes=payload_bytes)
        await entered.wait()
        return future

    def let_go(self) -> None:
        self._gate.set()

    def end(self) -> None:
        self.let_go()
        self.threads.stop()


@contextmanager
def calls_of(count: int = 1) -> Iterator[Calls]:
    calls = Calls(count)
    try:
        yield calls
    finally:
        calls.end()


# --- which are found ---


async def test_a_call_is_found_once_when_its_thread_has_spent_more_than_the_limit() -> None:
    clock = Clock()
    with calls_of() as calls:
        overruns = Overruns(calls.threads, 2.0, clock)
        await calls.begin(payload_bytes=77)
        assert overruns.found() == []  # it counts from here
        clock.spent_s = 2.0
        assert overruns.found() == []
        clock.spent_s = 2.5
        ((call, spent_s),) = overruns.found()
        assert (call.payload_bytes, spent_s) == (77, 2.5)
        clock.spent_s = 9.0
        assert overruns.found() == []


async def test_each_call_counts_for_itself_however_many_a_thread_has_run() -> None:
    clock, loop = Clock(), asyncio.get_running_loop()
    with calls_of() as calls:
        overruns = Overruns(calls.threads, 2.0, clock)
        for spent_s in (1.5, 3.0, 4.5):
            gate, entered = threading.Event(), asyncio.Event()

            def work(gate: threading.Event = gate, entered: asyncio.Event = entered) -> None:
                loop.call_soon_threadsafe(entered.set)
                gate.wait(PATIENCE_S)

            future = calls.threads.submit(work)
            await entered.wait()
            assert overruns.found() == []
            clock.spent_s = spent_s
            assert overruns.found() == []
            gate.set()
            await future


async def test_who_waits_for_memory_spends_nothing() -> None:
    budget = DecodeBudget(Quota(100))
    with budget.taken(100):
        threads, loop, asked = Threads(1, "decode"), asyncio.get_running_loop(), asyncio.Event()

        def work() -> None:
            loop.call_soon_threadsafe(asked.set)
            with budget.taken(50):
                pass

        future = threads.submit(work)
        await asked.wait()
        overruns = Overruns(threads, 0.05)
        overruns.found()
        burn(0.3)  # elsewhere in the process
        assert overruns.found() == []
    await future
    threads.stop()


async def test_the_clock_is_that_of_the_processor_and_of_the_threads_own() -> None:
    threads, loop, burnt = Threads(1, "decode"), asyncio.get_running_loop(), asyncio.Event()
    gate = threading.Event()

    def work() -> None:
        burn(0.2)
        loop.call_soon_threadsafe(burnt.set)
        gate.wait(PATIENCE_S)

    future = threads.submit(work)
    await burnt.wait()
    (call,) = threads.under_way()
    assert processor_s(call.thread) >= 0.2
    before = processor_s(call.thread)
    burn(0.2)
    assert processor_s(call.thread) - before < 0.1
    gate.set()
    await future
    threads.stop()


def burn(seconds: float) -> None:
    """So many of this thread."""
    until, block = time.thread_time() + seconds, bytes(1 << 16)
    while time.thread_time() < until:
        hashlib.sha256(block)


# --- what becomes of the process ---


class Watched:
    """A watch over some calls that may take 4 s, whose end is an event."""

    def __init__(self, shop: Shop, calls: Calls) -> None:
        self.calls, self.clock, self.worker = calls, Clock(), WorkerContext()
        self.metrics = shop.metrics
        self.health = Health(shop.models, shop.metrics, interval_s=60, timeout_s=60, watchdog_s=60, worker=self.worker)
        self.ended = asyncio.Event()
        overruns = Overruns(calls.threads, 4.0, self.clock)
        self.watch = OverrunWatch(overruns, self.health, shop.metrics, self.worker, self.ended.set)

    async def overrun(self, payload_bytes: int = 0) -> "asyncio.Future[None]":
        """A call that has taken too much by now."""
        future = await self.calls.begin(payload_bytes)
        self.watch._look()
        self.clock.spent_s = 4.1
        return future

    async def until_ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.watch.watch()
            await self.ended.wait()

    def reason(self) -> str:
        with pytest.raises(NotReady) as refused:
            self.health.expect_ready()
        return str(refused.value)


async def test_an_overrun_is_answered_counted_logged_and_ends_the_process(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with calls_of() as calls, shop_of(engine) as shop:
        watched = Watched(shop, calls)
        await watched.health.probe()
        watched.health.expect_ready()
        future = await watched.overrun(payload_bytes=1234)
        watched.health.expect_ready()
        await watched.until_ended()
        with pytest.raises(BadImage) as refused:
            future.result()
        words = "takes more than 4 s of processor time, the most expected."
        assert str(refused.value) == f"Decoding the picture {words}"
        assert watched.reason() == f"Decoding a picture {words} This process ends."
        assert watched.worker.is_retiring()
        samples = watched.metrics.samples()
        assert samples["mixer_decode_overruns_total"] == 1
        assert samples["mixer_ready"] == 0
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL] == [
        "a picture of 1234 bytes has been decoded for 4.1 s of processor time, of 4 s that it may take; "
        "this process ends"
    ]


async def test_what_waits_behind_an_overrun_is_decoded_by_another_thread(engine: Engine) -> None:
    with calls_of() as calls, shop_of(engine) as shop:
        watched = Watched(shop, calls)
        await watched.overrun()
        behind = calls.threads.submit(lambda: "decoded")
        await watched.until_ended()
        async with asyncio.timeout(PATIENCE_S):
            assert await behind == "decoded"


async def test_the_process_waits_for_the_last_connection_and_no_longer_than_its_grace(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 1000.0)
    with calls_of() as calls, shop_of(engine) as shop:
        watched = Watched(shop, calls)
        watched.worker.hold(1)
        await watched.overrun()
        watching = asyncio.create_task(watched.until_ended())
        async with asyncio.timeout(PATIENCE_S):
            while not watched.worker.is_retiring():  # noqa: ASYNC110 -- the watch tells nobody else
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # looks of the watch: it would have ended
        assert not watched.ended.is_set()
        watched.worker.hold(0)
        await watching


async def test_after_its_grace_the_process_ends_with_connections(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.0)
    with calls_of() as calls, shop_of(engine) as shop:
        watched = Watched(shop, calls)
        watched.worker.hold(1)
        await watched.overrun()
        await watched.until_ended()


async def test_a_process_that_drains_is_left_to_its_drain(engine: Engine) -> None:
    with calls_of() as calls, shop_of(engine) as shop:
        watched = Watched(shop, calls)
        watched.health.is_draining = lambda: True
        future = await watched.overrun()
        async with asyncio.timeout(PATIENCE_S):
            await watched.watch.watch()
        assert isinstance(future.exception(), BadImage)
        assert not watched.ended.is_set()


async def test_where_every_thread_is_in_one_picture_for_seconds_it_is_not_ready_until_one_is_free(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_STALL_S", 0.0)
    with calls_of(2) as calls, shop_of(engine) as shop, caplog.at_level(logging.INFO, "mixer.health"):
        watched = Watched(shop, calls)
        await watched.health.probe()
        first = await calls.begin()
        watched.watch._look()
        watched.health.expect_ready()  # one is free
        second = await calls.begin()
        watched.watch._look()
        watched.watch._look()
        assert watched.reason().startswith("No picture has been decoded in ")
        calls.let_go()
        await asyncio.gather(first, second)
        watched.watch._look()
        watched.health.expect_ready()
    said = [record.getMessage() for record in caplog.records if "decoded" in record.getMessage()]
    assert len(said) == 2
    assert said[1] == "pictures are decoded again"


def test_the_process_ends_with_an_exit_code_that_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(module.os, "_exit", ended.append)
    monkeypatch.setattr(module.logging, "shutdown", lambda: None)
    module._end_at_once()
    assert ended == [1]
