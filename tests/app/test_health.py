"""Ready means: a stored picture goes through the real path and gets its stored answer."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from colour_bundle import RED, colour_spec, picture
from fakes import FakeSession, GatedSession, WatchedMetrics, engine_of, means_of_colours

from app.batcher import Limits
from app.classifier import Classifier
from app.engine import Engine
from app.errors import NotReady
from app.health import Health
from app.images import DecodeLimits
from model.spec import Canary, ModelSpec

SPEC = colour_spec()
Watch = Callable[..., AbstractAsyncContextManager[Health]]


def canary_of(payload: bytes) -> Canary:
    return Canary(picture=base64.b64encode(payload).decode(), logits=(10.0, 0.0, 0.0), atol=1e-3)


@asynccontextmanager
async def health_of(
    engine: Engine, *, interval_s: float = 60, timeout_s: float = 60, **limits: Any
) -> AsyncIterator[Health]:
    classifier = Classifier(
        engine,
        limits=Limits(**limits),
        decode_limits=DecodeLimits(1 << 20, 1 << 20),
        decode_threads=1,
        metrics=WatchedMetrics(),
    )
    yield Health(classifier, interval_s=interval_s, timeout_s=timeout_s)
    classifier.close()


class Drifting(FakeSession):
    """Answers as the graph does, plus `drift`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, lambda patches: means_of_colours(patches) + np.float32(self.drift))
        self.drift = 0.0


def reason_of(health: Health) -> str:
    with pytest.raises(NotReady) as refused:
        health.expect_ready()
    assert str(refused.value) == health.reason
    return str(refused.value)


async def test_before_the_first_probe_the_service_is_starting(engine: Engine) -> None:
    async with health_of(engine) as health:
        assert reason_of(health) == "The service is starting."


async def test_a_right_answer_makes_it_ready(engine: Engine) -> None:
    async with health_of(engine) as health:
        await health.probe()
        health.expect_ready()
        assert health.reason is None


async def test_without_a_canary_it_is_ready_at_once() -> None:
    spec = colour_spec(canary=None)
    session = FakeSession(spec)
    async with health_of(engine_of(session, spec)) as health:
        await health.probe()
        health.expect_ready()
        assert session.batches == []


async def test_a_wrong_answer_makes_it_unready_and_a_right_one_ready_again(caplog: pytest.LogCaptureFixture) -> None:
    session = Drifting(SPEC)
    async with health_of(engine_of(session, SPEC)) as health:
        session.drift = 0.0009
        with caplog.at_level(logging.INFO, "mixer.health"):
            await health.probe()
            health.expect_ready()
            session.drift = 0.5
            await health.probe()
            await health.probe()
            reason = "The canary picture's logits are off by 0.5; expected at most 0.001."
            assert reason_of(health) == reason
            session.drift = 0.0
            await health.probe()
            health.expect_ready()
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("INFO", "readiness: ready"),
            ("ERROR", f"readiness: {reason}"),
            ("INFO", "readiness: ready"),
        ]


async def test_an_engine_that_fails_makes_it_unready() -> None:
    def answer(patches: Any) -> Any:
        raise RuntimeError("device lost")

    async with health_of(engine_of(FakeSession(SPEC, answer), SPEC)) as health:
        await health.probe()
        assert reason_of(health).startswith("The canary picture was not classified: The engine failed on this picture;")


async def test_an_engine_that_hangs_makes_it_unready() -> None:
    session = GatedSession(SPEC)
    async with health_of(engine_of(session, SPEC), timeout_s=0.05) as health:
        await health.probe()
        assert reason_of(health).startswith("The canary picture was not classified: The picture was not ")
        session.open_gate()


@pytest.mark.parametrize("payload", [b"no picture", b""])
async def test_a_canary_that_is_no_picture_makes_it_unready(payload: bytes) -> None:
    spec = colour_spec(canary=canary_of(payload))
    async with health_of(engine_of(FakeSession(spec, means_of_colours), spec)) as health:
        await health.probe()
        assert reason_of(health).startswith("The canary picture was not classified: The ")


async def test_a_full_queue_proves_nothing() -> None:
    async with health_of(engine_of(FakeSession(SPEC, means_of_colours), SPEC), queue_capacity=1) as health:
        with health._classifier.admit():
            await health.probe()
            assert reason_of(health) == "The service is starting."
        await health.probe()
        with health._classifier.admit():
            await health.probe()
            health.expect_ready()


async def test_draining_is_never_taken_back(engine: Engine) -> None:
    async with health_of(engine) as health:
        await health.probe()
        health.start_draining()
        assert reason_of(health) == "The service is draining."
        await health.probe()
        assert reason_of(health) == "The service is draining."


async def test_a_drain_that_begins_during_a_probe_is_not_overwritten_by_its_success() -> None:
    session = GatedSession(SPEC)
    async with health_of(engine_of(session, SPEC)) as health:
        probing = asyncio.create_task(health.probe())
        await session.entered.wait()
        health.start_draining()
        session.open_gate()
        await probing
        assert reason_of(health) == "The service is draining."


async def test_the_probe_is_repeated_for_ever() -> None:
    loop, third = asyncio.get_running_loop(), asyncio.Event()
    session = FakeSession(SPEC)

    def answer(patches: Any) -> Any:
        if len(session.batches) >= 3:
            loop.call_soon_threadsafe(third.set)
        return means_of_colours(patches)

    session._answer = answer
    async with health_of(engine_of(session, SPEC), interval_s=0.001) as health:
        watching = asyncio.create_task(health.watch())
        await third.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
    assert picture(RED) == base64.b64decode(SPEC.canary.picture if SPEC.canary else "")


async def test_a_probe_that_breaks_makes_it_unready_and_the_watch_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with health_of(engine) as health:
        monkeypatch.setattr("app.health.base64.b64decode", broken)
        await health.probe()
        assert reason_of(health) == "The canary check itself failed; the service's log says why."
        monkeypatch.undo()
        await health.probe()
        assert health.reason is None
