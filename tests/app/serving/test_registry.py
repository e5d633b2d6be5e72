"""The classifiers that answer, by name: lookup, takeover, and that the old one is gone when its last place is free."""

import asyncio
import gc
import threading
import weakref

import pytest

from app.errors import NotReady, QueueFull
from app.inference.answer import Wanted
from app.inference.classifier import Classifier
from app.serving.registry import UnknownModel
from tests.app.color_bundle import BLUE, RED, color_spec, image
from tests.app.fakes import FakeSession, GatedSession, engine_of, means_of_colors
from tests.app.in_process import Serve
from tests.app.problem_answers import expect_problem
from tests.app.served_models import Shop, shop_of

LATE_S = 1e9
SPEC = color_spec()
NEWER = color_spec(version="8")


async def best_label(classifier: Classifier, payload: bytes) -> str:
    with classifier.admit() as (permit,):
        deadline = asyncio.get_running_loop().time() + 60
        classified = await classifier.classify(permit, payload, wanted=Wanted(1), deadline=deadline)
    return classified.predictions[0]["label"]


def engine_info(shop: Shop) -> set[str]:
    return {name for name in shop.metrics.samples() if name.startswith("mixer_engine_info")}


async def until_gone(shop: Shop) -> None:
    """Until whoever was let go has been closed."""
    await asyncio.gather(*shop.models._retiring.values())


# --- lookup ---


def test_without_a_name_the_default_answers_and_without_a_default_the_first_by_name() -> None:
    for default, expected in (("", "a"), ("b", "b")):
        with shop_of(default=default) as shop:
            made = {name: shop.serve(engine_of(FakeSession(SPEC), SPEC), name) for name in ("c", "b", "a")}
            assert shop.models.classifier() is made[expected].classifier
            assert shop.models.classifier("c") is made["c"].classifier
            assert [model.name for model in shop.models] == ["a", "b", "c"]
            assert shop.models.body().default == expected


def test_little_is_repeated_of_a_long_name_or_version() -> None:
    with shop_of() as shop:
        shop.serve(engine_of(FakeSession(SPEC), SPEC), "a")
        for name, version in (("\x01" * 1_000_000, None), ("a", "\x01" * 1_000_000)):
            with pytest.raises(UnknownModel) as refused:
                shop.models.asked(name, version)
            assert len(refused.value.detail) < 400


def test_a_model_is_found_by_its_own_name_where_no_other_has_it_and_no_bundle() -> None:
    own = {"a": "roses", "b": "tulips", "c": "roses", "d": "a", "tulips": "d"}
    with shop_of() as shop:
        for name, of in own.items():
            shop.serve(engine_of(FakeSession(SPEC), color_spec(name=of)), name)
        assert {name: shop.models.asked(name).name for name in own} == {name: name for name in own}
        with pytest.raises(UnknownModel):
            shop.models.asked("roses")
        shop.models._serve({name: model for name, model in shop.models._by_name.items() if name not in ("c", "tulips")})
        assert (shop.models.asked("roses").name, shop.models.asked("tulips").name) == ("a", "b")
        with pytest.raises(UnknownModel, match=r"^version is '8'; a has 7\.$"):
            shop.models.asked("roses", "8")


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with shop_of(engine_of(FakeSession(SPEC), SPEC), name="a") as shop:
        shop.serve(engine_of(FakeSession(SPEC), SPEC), "b")
        with pytest.raises(UnknownModel, match=r"^model is 'c'; this service has a, b\.$"):
            shop.models.classifier("c")


def test_what_is_served_is_listed() -> None:
    with shop_of(engine_of(FakeSession(SPEC), SPEC), name="a") as shop:
        shop.serve(engine_of(FakeSession(NEWER), NEWER), "b").failure = None
        common = {"model": "colours", "precision": "fp32", "num_classes": 3}
        assert shop.models.body().model_dump() == {
            "default": "a",
            "models": [
                {"name": "a", "version": "7", "ready": False, **common},
                {"name": "b", "version": "8", "ready": True, **common},
            ],
        }


async def test_there_is_a_place_at_the_head_only_where_one_model_may_be_asked() -> None:
    with shop_of(engine_of(FakeSession(SPEC), SPEC), name="a", queue_capacity=1) as shop:
        expected = shop.models.expect(LATE_S)
        assert expected is not None
        assert expected.classifier is shop.models.classifier()
        with pytest.raises(QueueFull, match=r"^1 of 1 places"):
            shop.models.expect(LATE_S)
        expected.release()
        shop.serve(engine_of(FakeSession(SPEC), SPEC), "b")
        assert shop.models.expect(LATE_S) is None


# --- takeover ---


async def test_who_has_a_place_is_answered_by_the_old_one_and_who_comes_next_by_the_new_one() -> None:
    old_session, new_session = GatedSession(SPEC), FakeSession(NEWER, means_of_colors)
    with shop_of(engine_of(old_session, SPEC)) as shop:
        old = shop.models.classifier()
        waiting = asyncio.create_task(best_label(old, image(RED)))
        await old_session.entered.wait()
        shop.serve(engine_of(new_session, NEWER))
        assert shop.models.classifier().spec.version == "8"
        assert await best_label(shop.models.classifier(), image(BLUE)) == "blue"
        assert not waiting.done()
        with pytest.raises(NotReady):
            old.admit()
        assert shop.gone == 0
        old_session.open_gate()
        assert await waiting == "red"
        await until_gone(shop)
        await asyncio.sleep(0)
        assert shop.gone == 1
        assert len(old_session.batches) == 1
        assert len(new_session.batches) == 1


async def test_the_old_one_leaves_neither_threads_nor_its_session_behind() -> None:
    def instances() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("instance")}

    with shop_of() as shop:
        before = instances()
        session = FakeSession(SPEC, means_of_colors)
        shop.serve(engine_of(session, SPEC, instances=2))
        await best_label(shop.models.classifier(), image(RED))
        old = instances() - before
        gone, classifier = weakref.ref(session), weakref.ref(shop.models.classifier())
        del session
        gc.disable()  # a cycle would wait for the collector, and what is frozen there would stay for good
        try:
            shop.serve(engine_of(FakeSession(NEWER, means_of_colors), NEWER))
            await until_gone(shop)
            await asyncio.sleep(0)
            for thread in old:
                await asyncio.to_thread(thread.join, 10)
            assert (gone(), classifier()) == (None, None)
        finally:
            gc.enable()
        assert len(instances() - before) == 1


async def test_only_what_runs_is_shown() -> None:
    labels = 'mixer_engine_info{model="colours",precision="fp32",provider="cpu",version="%s"}'
    with shop_of(engine_of(FakeSession(SPEC), SPEC)) as shop:
        assert engine_info(shop) == {labels % "7"}
        shop.serve(engine_of(FakeSession(NEWER), NEWER))
        assert engine_info(shop) == {labels % "8"}
        shop.serve(engine_of(FakeSession(SPEC), SPEC), "other")
        assert engine_info(shop) == {labels % "7", labels % "8"}
        shop.models.remove("colours")
        assert engine_info(shop) == {labels % "7"}
        shop.serve(engine_of(FakeSession(SPEC), SPEC), "other")
        assert engine_info(shop) == {labels % "7"}


async def test_the_default_goes_to_the_next_when_it_is_removed() -> None:
    with shop_of(engine_of(FakeSession(SPEC), SPEC), name="a") as shop:
        shop.serve(engine_of(FakeSession(NEWER), NEWER), "b")
        shop.models.remove("a")
        assert shop.models.classifier().spec.version == "8"
        assert shop.models.body().default == "b"


# --- the end ---


async def test_a_run_of_one_that_was_let_go_is_still_watched_until_it_ends() -> None:
    session = GatedSession(SPEC)
    with shop_of(engine_of(session, SPEC)) as shop:
        shop.models._patience_s = 0.01
        waiting = asyncio.create_task(best_label(shop.models.classifier(), image(RED)))
        await session.entered.wait()
        shop.serve(engine_of(FakeSession(SPEC), SPEC))
        with pytest.raises(NotReady):
            await waiting
        await until_gone(shop)
        assert shop.models.stuck_s() > 0
        session.open_gate()
        while shop.models.stuck_s():  # noqa: ASYNC110 -- the thread says nothing when it ends
            await asyncio.sleep(0.001)
        assert not shop.models._retiring


async def test_a_drain_waits_for_all_of_them() -> None:
    first, second = GatedSession(SPEC), GatedSession(SPEC)
    with shop_of(engine_of(first, SPEC), name="a") as shop:
        answers = [asyncio.create_task(best_label(shop.models.classifier(), image(RED)))]
        await first.entered.wait()
        shop.serve(engine_of(second, SPEC), "a")
        answers.append(asyncio.create_task(best_label(shop.models.classifier(), image(BLUE))))
        await second.entered.wait()
        draining = asyncio.create_task(shop.models.drain(60))
        first.open_gate()
        assert await answers[0] == "red"
        assert not draining.done()
        second.open_gate()
        await draining
        assert await answers[1] == "blue"


# --- over HTTP ---


async def test_models_are_asked_for_by_name(serve: Serve) -> None:
    async with serve() as service:
        listed = (await service.http.get("/models")).json()
        assert [model["name"] for model in listed["models"]] == [listed["default"]]
        name = listed["default"]
        for path in ("/classify", "/classify/batch"):
            files = {"file": image(RED)}
            answer = await service.http.post(f"{path}?model={name}", files=files)
            assert answer.status_code == 200
            assert answer.json()["model"] == {"name": "colours", "version": "7", "precision": "fp32"}
            refused = await service.http.post(f"{path}?model=another", files=files)
            expect_problem(refused, 404, "unknown_model", "model is 'another'; this service has ", name)
        described = await service.http.get(f"/model?model={name}")
        assert described.json()["limits"]["max_batch_size"] == 8
        expect_problem(await service.http.get("/model?model=another"), 404, "unknown_model")


@pytest.mark.parametrize("path", ["/models", "/model"])
async def test_what_is_served_is_told_only_to_who_has_a_key(path: str, serve: Serve) -> None:
    async with serve(api_keys="a-key-of-sixteen-characters") as service:
        assert (await service.http.get(path)).status_code == 401
        headers = {"X-API-Key": "a-key-of-sixteen-characters"}
        assert (await service.http.get(path, headers=headers)).status_code == 200
