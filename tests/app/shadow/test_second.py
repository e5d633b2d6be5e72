"""A second model in the whole application: opened, tried, answering its share, exchanged, told of."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from app import composition, main
from app.engine.engine import open_engine
from app.engine.sessions import Sessions
from app.errors import BadSettings, EngineError
from app.serving.bundles import Opened, state_of
from app.serving.loading import ModelFactory
from app.serving.reload import Source
from app.settings import Settings
from app.shadow.rollout import MOST_FAILED
from app.shadow.second import Second
from model.spec import Canary
from tests.app.color_bundle import BLUE, RED, color_spec, image, write_bundle
from tests.app.fakes import FakeSession, engine_of, means_of_colors
from tests.app.in_process import Serve, Service
from tests.app.problem_answers import expect_problem
from tests.app.served_models import shop_of
from tests.app.shadow.watched import WatchedShadowMetrics

KEY = "an-operators-key-of-length"
ADMIN = {"Authorization": f"Bearer {KEY}"}
NEW = {"name": "newer", "version": "8"}


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A bundle that answers as the toy's does, under another name."""
    return write_bundle(tmp_path / "second", color_spec(**NEW))


def watched(service: Service) -> WatchedShadowMetrics:
    """What becomes of pictures from now on."""
    watching = WatchedShadowMetrics()
    service.metrics.shadow.images = watching.images
    return watching


async def answered_by(service: Service, path: str, **request: Any) -> str:
    answer = await service.http.post(path, **(request or {"content": image(RED)}))
    assert answer.status_code == 200, answer.text
    body = json.loads(answer.text.splitlines()[0])
    return str(body["model"]["name"])


# --- tried ---


async def test_answers_come_from_the_first_model_and_the_second_is_run_too(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_share=1) as service:
        watching = watched(service)
        await service.metrics.until(lambda: service.metrics.inside == 0)
        while "agree" not in watching.outcomes:  # until its canary has got its answer, there is no time for it
            count = len(watching.outcomes)
            assert await answered_by(service, "/classify") == "colours"
            await watching.counted(count + 1)
        samples = service.metrics.samples()
    assert samples['mixer_predictions_total{label="red"}'] == len(watching.outcomes)
    assert samples['mixer_shadow_info{model="newer",precision="fp32",provider="cpu",version="8"}'] == 1
    assert not any(name.startswith("mixer_model_") for name in samples)
    assert samples["mixer_batch_size_count"] == len(watching.outcomes) + 1  # and the first one's canary: no other run


async def test_nothing_of_it_is_there_without_one(serve: Serve) -> None:
    async with serve(admin_keys=KEY) as service:
        assert (await service.http.get("/models")).json()["shadow"] is None
        assert not any(name.startswith("mixer_shadow") for name in service.metrics.samples())


async def test_one_whose_canary_fails_leaves_the_service_ready(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    canary = Canary(picture=color_spec().canary.picture, logits=(0.0, 0.0, 9.0), atol=1e-3)  # type: ignore[union-attr]
    wrong = write_bundle(tmp_path / "wrong", color_spec(canary=canary))
    async with serve(shadow=wrong, shadow_share=1, shadow_answers=1) as service:
        for _ in range(3):
            assert await answered_by(service, "/classify") == "colours"
        assert (await service.http.get("/health/ready")).status_code == 200
        while "rests" not in caplog.text:
            await service.http.get("/health/live")
            await asyncio.sleep(0)  # a turn of the event loop
        watching = watched(service)
        assert await answered_by(service, "/classify") == "colours"
        assert watching.outcomes == ["dropped"]
        shadow = (await service.http.get("/models")).json()["shadow"]
    assert (shadow["name"], shadow["ready"]) == ("wrong", False)
    assert "the shadow wrong rests: The canary picture's logits are off by" in caplog.text


async def test_a_canary_that_is_due_while_it_closes_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    spec = color_spec()
    with shop_of(engine_of(FakeSession(spec, means_of_colors), spec)) as shop:
        (model,) = shop.models
        model.failure = None
        await shop.models.drain(60)
        second = Second(lambda: model, Source(Path("second"), shop.models, ModelFactory(pytest.fail, pytest.fail)))
        watching = asyncio.create_task(second.watch(60, 60))
        await asyncio.sleep(0)  # the turn of the event loop in which it is refused a permit
        assert shop.metrics.samples()['mixer_rejected_total{reason="draining"}'] == 1
        watching.cancel()
    assert model.failure is None
    assert caplog.text == ""


# --- answering ---


async def is_ready(service: Service) -> None:
    """Until the second one's canary has got its answer."""
    while True:
        listed = (await service.http.get("/models")).json()
        if listed["shadow"]["ready"]:
            return
        await asyncio.sleep(0)  # a turn of the event loop, in which its answer comes


@pytest.mark.parametrize("path", ["/classify", "/classify/batch", "/classify/stream", "/explain"])
async def test_it_answers_whoever_names_no_model_wherever_that_may_be(serve: Serve, second: Path, path: str) -> None:
    async with serve(shadow=second, shadow_answers=1) as service:
        await is_ready(service)
        form = {
            "files": [("file", ("a", image(RED))), *([("file", ("b", image(BLUE)))] if "/classify/" in path else [])]
        }
        if path == "/classify/stream":
            lines = (await service.http.post(path, **form)).text.splitlines()
            assert [json.loads(line)["model"]["name"] for line in lines[:2]] == ["newer", "newer"]
        else:
            assert await answered_by(service, path, **form) == "newer"
            assert await answered_by(service, f"{path}?model=colours0", **form) == "colours"


async def test_a_dialect_that_names_no_model_may_be_answered_by_it(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_answers=1) as service:
        await is_ready(service)
        assert (await service.http.post("/invocations", content=image(RED))).status_code == 200
        named = await service.http.post("/predictions/colours0", content=image(RED))
        assert named.status_code == 200
        samples = service.metrics.samples()
    assert samples['mixer_model_images_total{model="second",outcome="classified"}'] == 1
    assert samples['mixer_model_images_total{model="colours0",outcome="classified"}'] == 1


async def test_embeddings_are_those_of_the_first_model_where_none_is_named(serve: Serve, second: Path) -> None:
    picture = base64.b64encode(image(RED)).decode()
    async with serve(shadow=second, shadow_answers=1) as service:
        await is_ready(service)
        answer = await service.http.post("/v1/embeddings", json={"input": [picture, picture]})
        assert answer.json()["model"] == "colours0", answer.text


async def test_it_is_no_model_that_can_be_asked_for(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_answers=1) as service:
        await is_ready(service)
        for name in ("second", "newer"):
            answer = await service.http.post(f"/classify?model={name}", content=image(RED))
            expect_problem(answer, 404, "unknown_model")


async def test_a_client_always_sees_the_same_model(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_answers=0.5) as service:
        await is_ready(service)
        seen = {}
        for client in map(str, range(20)):
            request = {"content": image(RED), "headers": {"X-Client-ID": client}}
            (seen[client],) = {await answered_by(service, "/classify", **request) for _ in range(3)}
        assert set(seen.values()) == {"colours", "newer"}
        ids = [{"content": image(RED), "headers": {"X-Request-ID": f"request-{n}"}} for n in range(20)]
        assert {await answered_by(service, "/classify", **one) for one in ids} == {"colours", "newer"}


async def test_keys_tell_clients_apart(serve: Serve, second: Path) -> None:
    keys = {f"name{number}": f"a-key-of-some-length-{number}" for number in range(20)}
    listed = ",".join(f"{name}:{key}" for name, key in keys.items())
    async with serve(shadow=second, shadow_answers=0.5, api_keys=listed) as service:
        service.http.headers["X-API-Key"] = keys["name0"]
        await is_ready(service)
        seen = set()
        for key in keys.values():
            request = {"content": image(RED), "headers": {"X-API-Key": key}}
            (one,) = {await answered_by(service, "/classify", **request) for _ in range(3)}
            seen.add(one)
        assert seen == {"colours", "newer"}


async def test_what_it_answers_is_not_tried_again(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_answers=1, shadow_share=1) as service:
        await is_ready(service)
        watching = watched(service)
        assert await answered_by(service, "/classify") == "newer"
        assert await answered_by(service, "/classify?model=colours0") == "colours"
        assert await watching.counted(1) == ["agree"]


async def test_one_that_fails_too_often_answers_no_more(
    serve: Serve, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(patches: Any) -> Any:
        raise RuntimeError("it fails")

    spec = color_spec(**NEW, canary=None)
    honest = composition.open_bundle
    broken = Opened(state_of(second), engine_of(FakeSession(spec, fail), spec), Sessions())
    monkeypatch.setattr(
        composition,
        "open_bundle",
        lambda options, bundle, **more: broken if bundle == second else honest(options, bundle, **more),
    )
    async with serve(shadow=second, shadow_answers=1, shadow_share=0) as service:
        await is_ready(service)
        for _ in range(MOST_FAILED):
            expect_problem(await service.http.post("/classify", content=image(RED)), 500, "inference_failed")
        for _ in range(3):
            assert await answered_by(service, "/classify") == "colours"
        samples = service.metrics.samples()
        assert (await service.http.get("/models")).json()["shadow"]["answers"] == 0
    assert samples['mixer_shadow_stops_total{reason="inference_failed",shadow="second"}'] == 1
    assert 'mixer_shadow_answering{shadow="second"}' not in samples
    assert samples['mixer_model_images_total{model="second",outcome="inference_failed"}'] == MOST_FAILED


async def test_one_of_the_same_name_is_counted_apart_and_a_warning_says_that_answers_look_alike(
    serve: Serve, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(shadow=bundle, shadow_answers=1) as service:
        await is_ready(service)
        assert await answered_by(service, "/classify") == "colours"
        assert await answered_by(service, "/classify?model=colours0") == "colours"
        samples = service.metrics.samples()
    assert samples['mixer_model_images_total{model="colours0-shadow",outcome="classified"}'] == 1
    assert samples['mixer_model_images_total{model="colours0",outcome="classified"}'] == 1
    assert "answers do not tell which of them gave them" in caplog.text


async def test_statistics_of_the_model_leave_out_what_the_second_one_answered(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_answers=1) as service:
        await is_ready(service)
        assert await answered_by(service, "/classify") == "newer"
        assert await answered_by(service, "/classify?model=colours0") == "colours"
        (stats,) = (await service.http.get("/v2/models/colours0/stats")).json()["model_stats"]
    assert stats["inference_count"] == 1


# --- reloaded ---


async def reloaded(service: Service) -> dict[str, str]:
    answer = await service.http.post("/admin/reload", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return {one["name"]: one["outcome"] for one in answer.json()["models"]}


async def test_a_reload_exchanges_it_or_refuses_a_broken_one(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_answers=1, admin_keys=KEY) as service:
        await is_ready(service)
        assert await reloaded(service) == {"colours0": "unchanged", "shadow second": "unchanged"}
        beside = write_bundle(second.with_name("beside"), color_spec(name="newest", version="9"))
        (beside / "fp32.onnx").replace(second / "fp32.onnx")
        assert await reloaded(service) == {"colours0": "unchanged", "shadow second": "swapped"}
        assert await answered_by(service, "/classify") == "newest"
        (beside / "fp32.onnx").write_bytes(b"no graph")
        (beside / "fp32.onnx").replace(second / "fp32.onnx")
        answer = await service.http.post("/admin/reload", headers=ADMIN)
        expect_problem(answer, 409, "reload_refused")
        assert "shadow second was refused: " in answer.json()["detail"]
        assert await answered_by(service, "/classify") == "newest"
        samples = service.metrics.samples()
    assert samples['mixer_shadow_info{model="newest",precision="fp32",provider="cpu",version="9"}'] == 1
    assert 'mixer_shadow_info{model="newer",precision="fp32",provider="cpu",version="8"}' not in samples
    assert samples['mixer_engine_info{model="colours",precision="fp32",provider="cpu",version="7"}'] == 1


# --- opened ---


def create(bundle: Path, **options: Any) -> None:
    main.create_service(Settings(bundle=bundle, provider="cpu", instances=1, intra_op_threads=1, **options))


def test_one_that_cannot_be_opened_stops_the_start(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no-such-bundle"):
        create(bundle, shadow=tmp_path / "no-such-bundle")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "fp32.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"broken/fp32\.onnx"):
        create(bundle, shadow=tmp_path / "broken")


def test_a_folder_of_several_is_not_one(bundle: Path, tmp_path: Path) -> None:
    for name in "ab":
        write_bundle(tmp_path / name, color_spec())
    with pytest.raises(BadSettings, match="a folder of several bundles; expected one"):
        create(bundle, shadow=tmp_path)


def test_the_one_that_answers_is_none(tmp_path: Path) -> None:
    for name in "ab":
        write_bundle(tmp_path / name, color_spec())
    with pytest.raises(BadSettings, match="MIXER_SHADOW is a, which answers already"):
        create(tmp_path, shadow=Path("a"))
    create(tmp_path, shadow=Path("b"))


def test_run_aside_it_has_one_instance_of_one_thread_and_answering_as_many_as_the_model(
    bundle: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr(
        "app.serving.bundles.open_engine",
        lambda options, runtime: opened.append((options.instances, options.intra_op_threads)) or open_engine(options),
    )
    for answers in (0, 0.5):
        settings = Settings(
            bundle=bundle, shadow=second, shadow_answers=answers, provider="cpu", instances=3, intra_op_threads=2
        )
        main.create_service(settings)
    assert opened == [(3, 2), (1, 1), (3, 2), (3, 2)]


# --- one of several ---


async def test_one_of_a_folder_is_served_as_before_and_tried_too(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "several"
    for name, spec in (("a", color_spec()), ("b", color_spec(**NEW))):
        write_bundle(folder / name, spec)
    monkeypatch.setattr(composition.ModelFactory, "instead_of_opening", lambda factory, engine: factory)
    async with serve(bundle=folder, shadow=Path("b"), shadow_answers=0.5, shadow_share=1) as service:
        await is_ready(service)
        assert await answered_by(service, "/classify?model=b") == "newer"
        watching = watched(service)
        assert await answered_by(service, "/classify?model=a") == "colours"
        assert await watching.counted(1) == ["agree"]
        names = {await answered_by(service, "/classify") for _ in range(20)}
        assert names == {"colours", "newer"}
        listed = (await service.http.get("/models")).json()
    assert [one["name"] for one in listed["models"]] == ["a", "b"]
    assert listed["shadow"]["name"] == "b"


# --- told ---


async def test_operators_are_told_of_it_and_the_public_is_not(serve: Serve, second: Path) -> None:
    async with serve(shadow=second, shadow_answers=0.25) as service:
        await is_ready(service)
        assert (await service.http.get("/models")).json()["shadow"] == {
            "name": "second", "model": "newer", "version": "8", "precision": "fp32", "num_classes": 3, "ready": True,
            "share": 0.1, "answers": 0.25,
        }  # fmt: skip
    async with serve(shadow=second, admin_port=1) as service:
        assert "shadow" not in (await service.http.get("/models")).json()


async def test_other_labels_are_said_at_the_start(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    other = write_bundle(tmp_path / "other", color_spec(labels=("red", "Green", "Blue")))
    async with serve(shadow=other, shadow_share=0.2):
        pass
    assert "trying colours 7 in fp32 on cpu with 0.2 of the pictures; it answers 0 of the clients" in caplog.text
    assert "the shadow has 3 labels, of which colours0 has 1: labels are compared by their text" in caplog.text


def test_answers_need_a_shadow() -> None:
    with pytest.raises(ValueError, match="there is no shadow"):
        Settings(shadow_answers=0.1)
