"""Ready means: for every model, a stored picture goes through the real path and gets its stored answer."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from app.engine.engine import Engine
from app.errors import NotReady
from app.http.in_flight import InFlight
from app.serving import health as module
from app.serving.health import Health
from app.system.shared_memory import SharedMemory
from app.system.worker_context import WorkerContext
from model.spec import ModelSpec
from tests.app.color_bundle import color_spec
from tests.app.fakes import FakeSession, GatedSession, engine_of, means_of_colors
from tests.app.served_models import Shop, shop_of

SPEC = color_spec()


def health_of(
    shop: Shop,
    *,
    interval_s: float = 60,
    timeout_s: float = 60,
    watchdog_s: float = 60,
    worker: WorkerContext | None = None,
) -> Health:
    return Health(
        shop.models,
        shop.metrics,
        interval_s=interval_s,
        timeout_s=timeout_s,
        watchdog_s=watchdog_s,
        worker=worker or WorkerContext(),
    )


class Drifting(FakeSession):
    """Answers as the graph does, plus `drift`."""

    def __init__(self, spec: ModelSpec = SPEC) -> None:
        super().__init__(spec, lambda patches: means_of_colors(patches) + np.float32(self.drift))
        self.drift = 0.0


@contextmanager
def two_workers() -> Iterator[tuple[WorkerContext, WorkerContext]]:
    """Posts 0 and 1 on one board, as a supervisor gives them out."""
    shared_memory = SharedMemory(3)
    for segment in shared_memory.segments()[:-1]:
        for name in ("mixer_heartbeat", "mixer_connections", "mixer_reloaded", "mixer_refused", "mixer_reloads_asked"):
            segment.offset_of(f'["{name}"]')
    shared_memory.segment(2).offset_of('["mixer_reloads_asked"]')
    yield WorkerContext(0, shared_memory, parent_pipe=0), WorkerContext(1, shared_memory, parent_pipe=0)


def reason_of(health: Health) -> str:
    with pytest.raises(NotReady) as refused:
        health.expect_ready()
    assert str(refused.value) == health.reason
    return str(refused.value)


async def test_before_the_first_probe_the_service_is_starting(engine: Engine) -> None:
    with shop_of(engine) as shop:
        health = health_of(shop)
        assert reason_of(health) == "The service is starting."
        assert shop.metrics.samples()["mixer_ready"] == 0


async def test_a_right_answer_makes_it_ready(engine: Engine) -> None:
    began = time.time()
    with shop_of(engine) as shop:
        health = health_of(shop)
        await health.probe()
        health.expect_ready()
        assert health.reason is None
        samples = shop.metrics.samples()
        assert samples["mixer_ready"] == 1
        assert 0 < samples["mixer_canary_seconds"] < 60
        assert began <= samples["mixer_canary_last_success_timestamp_seconds"] <= time.time()


async def test_without_a_canary_it_is_ready_at_once() -> None:
    spec = color_spec(canary=None)
    with shop_of(engine_of(FakeSession(spec), spec)) as shop:
        health = health_of(shop)
        await health.probe()
        health.expect_ready()


async def test_a_wrong_answer_makes_it_unready_and_a_right_one_ready_again(caplog: pytest.LogCaptureFixture) -> None:
    session = Drifting()
    with shop_of(engine_of(session, SPEC)) as shop, caplog.at_level(logging.INFO, "mixer.health"):
        health = health_of(shop)
        session.drift = 0.0009
        await health.probe()
        health.expect_ready()
        succeeded = shop.metrics.samples()["mixer_canary_last_success_timestamp_seconds"]
        session.drift = 0.5
        await health.probe()
        await health.probe()
        reason = "The canary picture's logits are off by 0.5; expected at most 0.001."
        assert reason_of(health) == reason
        samples = shop.metrics.samples()
        assert samples["mixer_ready"] == 0
        assert samples['mixer_canary_failures_total{reason="wrong_answer"}'] == 2
        assert samples["mixer_canary_last_success_timestamp_seconds"] == succeeded
        session.drift = 0.0
        await health.probe()
        health.expect_ready()
        samples = shop.metrics.samples()
        assert samples["mixer_ready"] == 1
        assert samples["mixer_canary_last_success_timestamp_seconds"] > succeeded
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "readiness: ready"),
        ("ERROR", f"readiness: {reason}"),
        ("INFO", "readiness: ready"),
    ]


async def test_an_engine_that_fails_makes_it_unready() -> None:
    def answer(patches: Any) -> Any:
        raise RuntimeError("device lost")

    with shop_of(engine_of(FakeSession(SPEC, answer), SPEC)) as shop:
        health = health_of(shop)
        await health.probe()
        assert reason_of(health).startswith("The canary picture was not classified: The engine failed on this picture;")


async def test_a_instance_that_stalls_makes_it_unready_and_ready_again_when_it_goes_on() -> None:
    session = GatedSession(SPEC)
    with shop_of(engine_of(session, SPEC)) as shop:
        health = health_of(shop, timeout_s=0.05)
        await health.probe()
        assert reason_of(health).startswith("The canary picture was not classified: The picture was not ")
        assert shop.metrics.samples()['mixer_canary_failures_total{reason="deadline_passed"}'] == 1
        session.open_gate()
        health = health_of(shop)
        await health.probe()
        health.expect_ready()


async def test_a_lost_provider_makes_it_unready_and_ready_again_when_it_is_back(engine: Engine) -> None:
    lost: list[str | None] = ["The graph runs on the CPU."]
    with shop_of(engine, lost=lambda: lost[-1]) as shop:
        health = health_of(shop)
        await health.probe()
        assert reason_of(health) == "The graph runs on the CPU."
        assert shop.metrics.samples()['mixer_canary_failures_total{reason="provider"}'] == 1
        lost.append(None)
        await health.probe()
        health.expect_ready()


async def test_a_full_queue_proves_nothing() -> None:
    with shop_of(engine_of(FakeSession(SPEC, means_of_colors), SPEC), queue_capacity=1) as shop:
        health, classifier = health_of(shop), shop.models.classifier()
        with classifier.admit():
            await health.probe()
            assert reason_of(health) == "The service is starting."
            assert shop.metrics.samples()["mixer_canary_last_success_timestamp_seconds"] == 0
        await health.probe()
        with classifier.admit():
            await health.probe()
            health.expect_ready()


async def test_who_found_no_place_at_the_start_asks_again_soon() -> None:
    with shop_of(engine_of(FakeSession(SPEC, means_of_colors), SPEC), queue_capacity=1) as shop:
        health = health_of(shop, interval_s=3600)
        with shop.models.classifier().admit():  # by other workers, whose canaries are under way
            await health.probe()
            watching = asyncio.create_task(health.watch())
            await asyncio.sleep(0)
            assert reason_of(health) == "The service is starting."
        async with asyncio.timeout(30):
            await shop.metrics.until(lambda: shop.metrics.inside == 1)
            await shop.metrics.until(lambda: shop.metrics.inside == 0)
            while health.reason is not None:  # noqa: ASYNC110 -- a few turns later
                await asyncio.sleep(0)
        watching.cancel()


# --- several models ---


async def test_of_several_models_each_must_give_its_answer_and_the_reason_names_the_one_that_does_not() -> None:
    good, bad = Drifting(), Drifting()
    with shop_of(engine_of(good, SPEC), name="a") as shop:
        shop.serve(engine_of(bad, SPEC), "b")
        health = health_of(shop)
        await health.probe()
        health.expect_ready()
        bad.drift = 0.5
        await health.probe()
        assert reason_of(health) == "b: The canary picture's logits are off by 0.5; expected at most 0.001."
        assert [entry.ready for entry in shop.models.body().models] == [True, False]


async def test_a_model_that_stalls_does_not_keep_the_others_from_being_probed() -> None:
    stalled = GatedSession(SPEC)
    with shop_of(engine_of(stalled, SPEC), name="a") as shop:
        other = shop.serve(engine_of(FakeSession(SPEC, means_of_colors), SPEC), "b")
        health = health_of(shop)
        probing = asyncio.create_task(health.probe())
        await stalled.entered.wait()
        while other.failure is not None:  # noqa: ASYNC110 -- a test of what happens meanwhile
            await asyncio.sleep(0)
        assert not probing.done()
        stalled.open_gate()
        await probing
        health.expect_ready()


async def test_what_the_canary_of_one_that_was_replaced_says_no_longer_counts() -> None:
    session = GatedSession(SPEC, lambda patches: means_of_colors(patches) + np.float32(1))
    with shop_of(engine_of(session, SPEC)) as shop:
        health = health_of(shop)
        probing = asyncio.create_task(health.probe())
        await session.entered.wait()
        new = shop.serve(engine_of(FakeSession(SPEC, means_of_colors), SPEC))
        new.failure = None
        session.open_gate()
        await probing
        health.expect_ready()
        samples = shop.metrics.samples()
        assert not any(value for name, value in samples.items() if name.startswith("mixer_canary_failures_total"))


# --- runs that do not end ---


async def test_a_run_that_takes_over_half_the_watchdogs_patience_makes_it_unready_until_it_ends(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop_of(engine) as shop:
        health = health_of(shop, watchdog_s=60)
        await health.probe()
        classifier = shop.models.classifier()
        for stuck_s in (29.0, 31.0, 59.0):
            monkeypatch.setattr(classifier, "stuck_s", lambda stuck_s=stuck_s: stuck_s)
            health._watch_runs()
            assert (health.reason is None) == (stuck_s == 29)
        assert reason_of(health) == "A run has not ended in 31.0 s."
        assert shop.metrics.samples()['mixer_canary_failures_total{reason="stuck_run"}'] == 1
        await health.probe()
        health.expect_ready()


async def test_a_run_that_never_ends_ends_the_process(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(module.os, "_exit", ended.append)
    monkeypatch.setattr(module.logging, "shutdown", lambda: None)
    with shop_of(engine) as shop:
        health = health_of(shop, watchdog_s=60)
        monkeypatch.setattr(shop.models.classifier(), "stuck_s", lambda: 61.0)
        health._watch_runs()
        assert ended == [1]


async def test_a_run_that_never_ends_is_seen_while_a_probe_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    session, ended = GatedSession(SPEC), asyncio.Event()
    monkeypatch.setattr(module.os, "_exit", lambda _: ended.set())
    monkeypatch.setattr(module.logging, "shutdown", lambda: None)
    with shop_of(engine_of(session, SPEC)) as shop:
        await watched(health_of(shop, interval_s=0.001, watchdog_s=0.1), ended)  # the canary's own run is the one
        session.open_gate()


# --- other workers, draining, for ever ---


async def test_another_workers_complaint_is_one_of_the_whole_service() -> None:
    session = Drifting()
    with two_workers() as (mine, others), shop_of(engine_of(session, SPEC)) as shop:
        here, there = health_of(shop, worker=mine), health_of(shop, worker=others)
        session.drift = 0.5
        await there.probe()
        session.drift = 0.0
        await here.probe()
        with pytest.raises(NotReady, match=r"^Worker 1: The canary picture's logits are off by 0\.5;"):
            here.expect_ready()
        await there.probe()
        here.expect_ready()


async def test_why_this_process_ends_is_its_own_reason_and_none_of_the_others(engine: Engine) -> None:
    with two_workers() as (mine, others), shop_of(engine) as shop:
        here, there = health_of(shop, worker=mine), health_of(shop, worker=others)
        await here.probe()
        await there.probe()
        here.start_ending("A picture takes too long. This process ends.")
        assert reason_of(here) == "A picture takes too long. This process ends."
        await here.probe()
        assert reason_of(here) == "A picture takes too long. This process ends."
        there.expect_ready()


async def test_a_worker_that_classifies_nothing_is_ready_as_long_as_another_does(engine: Engine) -> None:
    with two_workers() as (mine, others), shop_of(engine) as shop:
        here, there = health_of(shop, worker=mine), health_of(shop, worker=others)
        for health, worker in ((here, mine), (there, others)):
            await health.probe()
            worker.heartbeat()
        here.stall("No picture has been decoded in 5.0 s.")
        here.expect_ready()
        there.expect_ready()
        there.stall("No picture has been decoded in 4.1 s.")
        for health, reason in ((here, r"5\.0 s"), (there, r"4\.1 s")):
            with pytest.raises(NotReady, match=reason):
                health.expect_ready()
        there.stall(None)
        here.expect_ready()
        there.expect_ready()


async def test_draining_is_never_taken_back(engine: Engine) -> None:
    with shop_of(engine) as shop:
        in_flight, health = InFlight(), health_of(shop)
        health.is_draining = lambda: in_flight.is_draining
        await health.probe()
        in_flight.start_draining()
        health.review()
        assert reason_of(health) == "The service is draining."
        assert shop.metrics.samples()["mixer_ready"] == 0
        await health.probe()
        assert reason_of(health) == "The service is draining."
        assert shop.metrics.samples()["mixer_ready"] == 0


async def test_a_drain_that_begins_during_a_probe_is_not_overwritten_by_its_success() -> None:
    session = GatedSession(SPEC)
    with shop_of(engine_of(session, SPEC)) as shop:
        health = health_of(shop)
        probing = asyncio.create_task(health.probe())
        await session.entered.wait()
        health.is_draining = lambda: True
        session.open_gate()
        await probing
        assert reason_of(health) == "The service is draining."


async def watched(health: Health, until: asyncio.Event) -> None:
    watching = asyncio.create_task(health.watch())
    await until.wait()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_the_probe_is_repeated_for_ever() -> None:
    third, session = asyncio.Event(), FakeSession(SPEC)
    session._answer = _telling(session, third)
    with shop_of(engine_of(session, SPEC)) as shop:
        await watched(health_of(shop, interval_s=0.001), third)


async def test_whoever_starts_the_watch_has_probed_already(engine: Engine) -> None:
    with shop_of(engine) as shop:
        watching = asyncio.create_task(health_of(shop, interval_s=3600).watch())
        for _ in range(9):
            await asyncio.sleep(0)
        assert shop.metrics.samples()["mixer_in_flight"] == 0
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


async def test_a_probe_that_breaks_makes_it_unready_and_the_watch_goes_on() -> None:
    third, session = asyncio.Event(), FakeSession(SPEC)
    session._answer = _telling(session, third)
    breakage: list[Exception] = [ZeroDivisionError()]

    def lost() -> str | None:
        if breakage:
            raise breakage.pop()
        return None

    with shop_of(engine_of(session, SPEC), lost=lost) as shop:
        health = health_of(shop, interval_s=0.001)
        await health.probe()
        assert reason_of(health) == "The canary check itself failed; the service's log says why."
        await watched(health, third)
        assert health.reason is None


def _telling(session: FakeSession, third: asyncio.Event) -> Callable[[Any], Any]:
    """Answers as the graph does, and tells of the third run."""
    loop = asyncio.get_running_loop()

    def answer(patches: Any) -> Any:
        if len(session.batches) >= 3:
            loop.call_soon_threadsafe(third.set)
        return means_of_colors(patches)

    return answer
