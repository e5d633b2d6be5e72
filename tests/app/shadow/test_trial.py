"""Pictures that were answered, run by a second model too where nothing else is to be done."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from app.inference.answer import Wanted
from app.inference.classifier import Classified
from app.serving.canary import HealthFailure
from app.serving.registry import Model
from app.shadow import trial as module
from app.shadow.trial import MOST_WAITING, MOST_WAITING_BYTES, Trial
from model.preprocess import to_patches
from model.spec import ModelSpec
from tests.app.color_bundle import BLUE, RED, color_spec, image
from tests.app.fakes import FakeSession, GatedSession, engine_of, means_of_colors
from tests.app.served_models import Shop, shop_of
from tests.app.shadow.watched import WatchedShadowMetrics

SPEC = color_spec(canary=None)
SMALLER = color_spec(canary=None, image_size=4)
REDDISH = np.full((8, 8, 3), RED, dtype=np.uint8)


class Bench:
    """A model that answers, a second one beside it, and the trial of that."""

    def __init__(self, shop: Shop, session: FakeSession, spec: ModelSpec, **options: Any) -> None:
        self.shop, self.metrics = shop, WatchedShadowMetrics()
        self.first = shop.serve(engine_of(FakeSession(SPEC, means_of_colors), SPEC), "old")
        self.second: Model | None = shop.make(engine_of(session, spec), "new", max_batch_size=8)
        self.second.failure = None
        options = {"share": 1.0, "timeout_s": 60.0, **options}
        self.trial = Trial(shop.models, lambda: self.second, self.metrics, **options)

    async def offer(self, picture: Any = REDDISH, name: str = "old") -> None:
        """As the model's classifier does once it has answered."""
        deadline = asyncio.get_running_loop().time() + 60
        with self.first.classifier.admit() as (permit,):
            classified: Classified = await self.first.classifier.classify(
                permit, picture, wanted=Wanted(1), deadline=deadline
            )
        pixels = REDDISH if isinstance(picture, bytes) else picture
        self.trial.offer(name, SPEC, picture, to_patches(pixels, SPEC), classified)


@asynccontextmanager
async def bench_of(
    session: FakeSession | None = None, spec: ModelSpec = SPEC, *, runs: bool = True, **options: Any
) -> AsyncIterator[Bench]:
    with shop_of() as shop:
        bench = Bench(shop, session or FakeSession(spec, means_of_colors), spec, **options)
        running = asyncio.create_task(bench.trial.run()) if runs else None
        try:
            yield bench
        finally:
            if running is not None:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running


async def test_what_was_answered_is_run_by_the_second_model_from_the_same_patches() -> None:
    session = FakeSession(SPEC, means_of_colors)
    async with bench_of(session) as bench:
        await bench.offer()
        assert await bench.metrics.counted(1) == ["agree"]
    assert np.array_equal(session.batches[0][0], to_patches(REDDISH, SPEC))


async def test_a_model_of_another_size_sees_the_picture_in_its_own_way() -> None:
    session = FakeSession(SMALLER, means_of_colors)
    async with bench_of(session, SMALLER) as bench:
        await bench.offer(image(RED))
        assert await bench.metrics.counted(1) == ["agree"]
    assert session.batches[0].shape == (1, SMALLER.num_patches, SMALLER.patch_bytes)


async def test_pixels_that_are_a_part_of_a_request_are_kept_apart_from_it() -> None:
    whole = np.concatenate([REDDISH, REDDISH])
    async with bench_of(spec=SMALLER, runs=False) as bench:
        await bench.offer(whole[:8])
        whole[:] = BLUE
        assert (bench.trial._waiting[0].picture == REDDISH).all()  # type: ignore[comparison-overlap]


async def test_another_answer_differs() -> None:
    async with bench_of(FakeSession(SPEC, lambda patches: means_of_colors(patches)[:, ::-1])) as bench:
        await bench.offer()
        assert await bench.metrics.counted(1) == ["differ"]


async def test_it_waits_until_no_picture_is_inside() -> None:
    session = FakeSession(SPEC, means_of_colors)
    async with bench_of(session) as bench:
        with bench.first.classifier.admit():
            await bench.offer()
            await bench.offer()
            for _ in range(20):  # turns of the event loop in which it could begin
                await asyncio.get_running_loop().run_in_executor(None, int)
            assert session.batches == []
        await bench.metrics.counted(2)
    assert sum(map(len, session.batches)) == 2


async def test_it_takes_no_place_from_those_who_want_answers() -> None:
    session = GatedSession(SPEC)
    async with bench_of(session) as bench:
        await bench.offer()
        await session.entered.wait()
        assert bench.second is not None
        assert bench.second.classifier.batcher.admission.inside == 0
        await bench.offer()  # answered though the shadow hangs
        session.open_gate()
        assert await bench.metrics.counted(2) == ["agree", "agree"]


async def test_of_many_only_so_many_wait_and_the_others_are_dropped() -> None:
    async with bench_of(runs=False) as bench:
        for _ in range(MOST_WAITING + 3):
            await bench.offer()
        assert bench.metrics.outcomes == ["dropped"] * 3


async def test_what_waits_is_bounded_in_bytes() -> None:
    async with bench_of(spec=SMALLER, runs=False) as bench:
        large = np.full((1024, 1000, 3), RED, dtype=np.uint8)
        fitting = MOST_WAITING_BYTES // large.nbytes
        for _ in range(fitting + 2):
            await bench.offer(large)
        assert bench.metrics.outcomes == ["dropped"] * 2


async def test_the_room_of_what_was_run_is_free_again() -> None:
    async with bench_of() as bench:
        for count in range(1, 2 * MOST_WAITING):
            await bench.offer()
            await bench.metrics.counted(count)
        assert set(bench.metrics.outcomes) == {"agree"}
        assert bench.trial._waiting_bytes == 0


async def test_chance_chooses_the_share() -> None:
    chances = iter((0.05, 0.1, 0.5, 0.0999))
    async with bench_of(share=0.1, chance=lambda: next(chances)) as bench:
        for _ in range(4):
            await bench.offer()
        assert await bench.metrics.counted(2) == ["agree", "agree"]
        assert not bench.trial._waiting


async def test_pictures_of_other_models_are_not_tried() -> None:
    async with bench_of() as bench:
        await bench.offer(name="another")
        await bench.offer()
        assert await bench.metrics.counted(1) == ["agree"]


async def test_one_whose_canary_fails_rests() -> None:
    async with bench_of() as bench:
        assert bench.second is not None
        bench.second.failure = HealthFailure("wrong_answer", "It is wrong.")
        await bench.offer()
        assert bench.metrics.outcomes == ["dropped"]


def _raise(patches: Any) -> Any:
    raise RuntimeError("it fails")


@pytest.mark.parametrize("answer", [_raise, lambda patches: np.full((len(patches), 3), np.nan, dtype=np.float32)])
async def test_one_that_fails_is_counted_and_logged_once_in_a_while(
    answer: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with bench_of(FakeSession(SPEC, answer)) as bench:
        for count in range(1, 4):
            await bench.offer()
            await bench.metrics.counted(count)
        assert bench.metrics.outcomes == ["failed"] * 3
    logged = [record.message for record in caplog.records if record.name == "mixer.shadow"]
    assert logged == ["the shadow new failed on a picture; said once a minute"]


async def test_a_run_that_does_not_end_fails_in_time_and_what_comes_then_is_dropped() -> None:
    session = GatedSession(SPEC)
    async with bench_of(session, timeout_s=0.001) as bench:
        await bench.offer()
        assert await bench.metrics.counted(1) == ["failed"]
        for _ in range(MOST_WAITING + 1):
            await bench.offer()
        assert bench.metrics.outcomes == ["failed", "dropped"]
        session.open_gate()
        await bench.metrics.counted(MOST_WAITING + 2)


async def test_one_that_was_exchanged_for_one_of_another_size_drops_what_waits() -> None:
    async with bench_of(runs=False) as bench:
        await bench.offer()
        bench.second = bench.shop.make(engine_of(FakeSession(SMALLER, means_of_colors), SMALLER), "new")
        bench.second.failure = None
        running = asyncio.create_task(bench.trial.run())
        assert await bench.metrics.counted(1) == ["dropped"]
        running.cancel()


async def test_what_waits_for_a_model_that_has_gone_is_forgotten() -> None:
    async with bench_of(runs=False) as bench:
        await bench.offer()
        second, bench.second = bench.second, None
        running = asyncio.create_task(bench.trial.run())
        await asyncio.sleep(0)
        bench.second = second
        assert not bench.trial._waiting
        await bench.offer()
        assert await bench.metrics.counted(1) == ["agree"]
        running.cancel()


async def test_an_exchange_of_the_model_that_answers_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_AGAIN_S", 0.01)
    async with bench_of() as bench:
        old = bench.first
        with old.classifier.admit():
            await bench.offer()
            bench.first = bench.shop.serve(engine_of(FakeSession(SPEC, means_of_colors), SPEC), "old")
            assert await bench.metrics.counted(1) == ["agree"]  # though the old one still has a picture
