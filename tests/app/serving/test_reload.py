"""New bundles in place of old ones: opened beside them, proved, and taken over; or refused with the reason."""

import asyncio
import gc
import math
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app import main
from app.engine.engine import EngineOptions
from app.errors import BadSettings, DeadlinePassed, EngineError
from app.inference.classifier import Classifier
from app.serving.bundles import Opened, open_bundle
from app.serving.health import Health
from app.serving.loading import ModelFactory
from app.serving.reload import Outcome, Reload, ReloadRefused
from app.settings import Settings
from app.system.quota import Quota
from app.system.shared_memory import SharedMemory
from app.system.worker_context import WorkerContext
from model.spec import METADATA_KEY, Canary
from tests.app.color_bundle import BLUE, RED, color_graph, color_spec, image, write_bundle
from tests.app.fakes import samples_of
from tests.app.problem_answers import expect_problem
from tests.pace import is_within

from tests.app.served_models import Shop, shop_of  # isort: skip

KEY = "an-operators-key-of-length"
OLD, NEW = color_spec(version="7"), color_spec(version="8")


def put(bundle: Path, **changes: Any) -> Path:
    """Write a bundle beside `bundle`, and put it there in one step."""
    beside = bundle.with_name(f".{bundle.name}.new")
    write_bundle(beside, color_spec(**changes))
    shutil.rmtree(bundle, ignore_errors=True)
    return beside.rename(bundle)


class Bench:
    """One process that serves the bundles of a folder, without HTTP."""

    def __init__(self, folder: Path, shop: Shop, worker: WorkerContext, *, default: str = "", **options: Any) -> None:
        self.shop, self.models, self.metrics = shop, shop.models, shop.metrics
        self.opened: list[str] = []
        self.options = EngineOptions(folder, provider="cpu", instances=1, max_batch_size=2, **options)
        self.health = Health(shop.models, shop.metrics, interval_s=60, timeout_s=60, watchdog_s=60, worker=worker)
        self.reload_hooks: dict[str, Callable[[], None]] = {}
        self.reload = Reload(
            folder,
            shop.models,
            ModelFactory(self._open, self._build),
            self.health,
            worker,
            shop.metrics,
            default=default,
            timeout_s=60,
            reload_hooks=self.reload_hooks,
        )

    def _open(self, bundle: Path) -> Opened:
        self.opened.append(bundle.name)
        return open_bundle(self.options, bundle)

    def _build(self, name: str, opened: Opened) -> Any:
        model = self.shop.make(opened.engine, name)
        model.state = opened.state
        return model

    def start(self, *bundles: Path) -> None:
        for bundle in bundles:
            self.models.take(self._build(bundle.name, self._open(bundle)))
        self.opened.clear()

    def versions(self) -> dict[str, str]:
        return {model.name: model.classifier.spec.version for model in self.models}

    async def now(self) -> list[tuple[str, str]]:
        return [(one.name, one.outcome) for one in (await self.reload.now()).models]

    async def refusal(self) -> str:
        with pytest.raises(ReloadRefused) as refused:
            await self.reload.now()
        return refused.value.detail

    def counted(self) -> dict[str, float]:
        samples = self.metrics.samples().items()
        return {name.split('"')[1]: value for name, value in samples if "mixer_reloads_total" in name and value}


@asynccontextmanager
async def bench_of(
    folder: Path, *bundles: Path, worker: WorkerContext | None = None, **options: Any
) -> AsyncIterator[Bench]:
    with shop_of(default=options.get("default", "")) as shop:
        bench = Bench(folder, shop, worker or WorkerContext(), **options)
        bench.start(*(bundles or [folder]))
        await bench.health.probe()
        watching = asyncio.create_task(bench.reload.watch())
        yield bench
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        bench.reload.close()


# --- one bundle ---


async def test_what_has_not_changed_stays(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle) as bench:
        before = bench.models.classifier()
        assert await bench.now() == [("colours", "unchanged")]
        assert bench.models.classifier() is before
        assert bench.opened == []
        assert bench.counted() == {"unchanged": 1}


class _Full(Quota):
    """Has no room for so many times."""

    def __init__(self, times: float) -> None:
        super().__init__(1)
        self._times = times

    def try_take(self, count: int) -> bool:
        self._times -= 1
        return self._times < 0 and super().try_take(count)


async def test_the_canary_of_a_new_one_waits_for_its_place_in_a_full_queue(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle) as bench:
        put(bundle, version="8")
        bench.shop.permits = _Full(2)
        assert await bench.now() == [("colours", "swapped")]


async def test_a_new_one_whose_canary_gets_no_place_is_refused_in_plain_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle) as bench:
        put(bundle, version="8")
        bench.shop.permits = _Full(math.inf)
        bench.reload._timeout_s = 0.1
        assert "colours was refused: The canary picture got no place in 0.1 s: 1 of 1 places" in await bench.refusal()
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_new_one_takes_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = put(tmp_path / "colours")
    with caplog.at_level("INFO", "mixer.reload"):
        async with bench_of(bundle) as bench:
            put(bundle, version="8")
            assert await bench.now() == [("colours", "swapped")]
            assert bench.versions() == {"colours": "8"}
            bench.health.expect_ready()
            assert bench.counted() == {"swapped": 1}
    assert "reload: colours swapped: version '7' -> '8'" in caplog.messages
    assert "reload: nothing has changed" not in caplog.messages


async def test_other_classes_are_told_in_the_answer_and_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = put(tmp_path / "colours")
    with caplog.at_level("INFO", "mixer.reload"):
        async with bench_of(bundle) as bench:
            put(bundle, labels=("green", "red", "purple"), temperature=1.5)
            (outcome,) = (await bench.reload.now()).models
    labels = "labels: 1 added ('purple'), 1 removed ('blue'), 2 moved to another index ('green', 'red')"
    assert outcome.changes == [labels, "temperature 1.0 -> 1.5"]
    assert f"reload: colours swapped: {labels}; temperature 1.0 -> 1.5" in caplog.messages


async def test_one_with_other_weights_alone_says_that_its_classes_are_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = put(tmp_path / "colours")
    with caplog.at_level("INFO", "mixer.reload"):
        async with bench_of(bundle) as bench:
            put(bundle)
            (outcome,) = (await bench.reload.now()).models
    assert (outcome.outcome, outcome.changes) == ("swapped", [])
    assert "reload: colours swapped: its labels, sizes and temperature are as they were" in caplog.messages


async def test_a_reload_that_finds_nothing_new_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mixer.reload"):
        async with bench_of(put(tmp_path / "colours")) as bench:
            await bench.now()
    assert caplog.messages[-1] == "reload: nothing has changed"


async def test_one_that_fails_its_canary_is_opened_anew_even_if_it_has_not_changed(tmp_path: Path) -> None:
    async with bench_of(put(tmp_path / "colours")) as bench:
        model = next(iter(bench.models))
        model.lost_provider = lambda: "It is gone."
        await bench.health.probe()
        assert bench.health.reason == "It is gone."
        assert await bench.now() == [("colours", "swapped")]
        bench.health.expect_ready()


def truncated(bundle: Path) -> None:
    graph = bundle / "fp32.onnx"
    os.truncate(graph, graph.stat().st_size // 2)


def corrupt(bundle: Path) -> None:
    (bundle / "fp32.onnx").write_bytes(np.random.default_rng(0).bytes(5000))


def missing(bundle: Path) -> None:
    shutil.rmtree(bundle)


def another_specs(bundle: Path) -> None:
    written = color_graph(OLD, metadata={METADATA_KEY: '{"name": "later", "layers_of_the_future": 3}'})
    (bundle / "fp32.onnx").write_bytes(written)


def another_interface(bundle: Path) -> None:
    write_bundle(bundle, OLD, input_name="pictures")


def another_answer(bundle: Path) -> None:
    canary = OLD.canary
    assert canary is not None
    drifted = Canary(picture=canary.picture, logits=(9.0, 0.0, 0.0), atol=canary.atol)
    write_bundle(bundle, color_spec(canary=drifted))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (truncated, "cannot be opened on CPUExecutionProvider: "),
        (corrupt, "cannot be opened on CPUExecutionProvider: "),
        (missing, "does not exist; expected a folder with fp32.onnx, fp16.onnx or int8.onnx, "),
        (another_specs, "has a mixer.spec that is not valid: "),
        (another_interface, "its spec says uint8 patches of 4 x 48."),
        (another_answer, "The canary picture's logits are off by 1; expected at most 0.001."),
    ],
)
async def test_a_bad_one_is_refused_soon_with_its_reason_and_the_old_one_goes_on(
    break_it: Callable[[Path], None], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle) as bench:
        before = bench.models.classifier()
        break_it(bundle)
        began = time.monotonic()
        detail = await bench.refusal()
        assert is_within(time.monotonic() - began, 2, time.perf_counter)
        assert detail.startswith("colours was refused: ")
        assert words in detail
        assert bench.models.classifier() is before
        bench.health.expect_ready()
        assert bench.counted() == {"refused": 1}
        assert any(words in line and line.startswith("reload: colours refused: ") for line in caplog.messages)
        put(bundle, version="9")
        assert await bench.now() == [("colours", "swapped")]


async def test_a_precision_that_it_has_not_is_refused(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle, precision="fp32") as bench:
        (bundle / "fp32.onnx").rename(bundle / "int8.onnx")
        assert "precision is fp32; the bundle " in await bench.refusal()


async def test_one_that_would_fall_back_to_the_cpu_is_refused_where_the_old_one_has_not(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle) as bench:
        put(bundle, version="8")
        honest = bench._open

        def falling_back(path: Path) -> Opened:
            opened = honest(path)
            opened.engine.fallback = "CUDA has no memory left."
            return opened

        bench.reload._model_factory = ModelFactory(falling_back, bench._build)
        assert "colours was refused: It would run on the cpu now: CUDA has no memory left." in await bench.refusal()
        assert bench.versions() == {"colours": "7"}


async def test_what_nobody_expected_is_refused_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle) as bench:
        put(bundle, version="8")

        def broken(path: Path) -> Opened:
            raise ZeroDivisionError

        bench.reload._model_factory = ModelFactory(broken, bench._build)
        assert "It cannot be opened; the service's log says why." in await bench.refusal()
        assert "ZeroDivisionError" in caplog.text


# --- several bundles ---


async def test_of_a_folder_added_ones_appear_removed_ones_go_and_changed_ones_swap(tmp_path: Path) -> None:
    bundles = [put(tmp_path / name) for name in ("a", "b", "c")]
    async with bench_of(tmp_path, *bundles) as bench:
        shutil.rmtree(tmp_path / "a")
        put(tmp_path / "b", version="8")
        put(tmp_path / "d", version="1")
        assert await bench.now() == [("b", "swapped"), ("c", "unchanged"), ("d", "added"), ("a", "removed")]
        assert bench.versions() == {"b": "8", "c": "7", "d": "1"}
        assert bench.opened == ["b", "d"]
        assert bench.counted() == {"swapped": 1, "unchanged": 1, "added": 1, "removed": 1}
        bench.health.expect_ready()


@pytest.mark.heavy
async def test_of_fifty_the_one_that_has_changed_is_opened(tmp_path: Path) -> None:
    bundles = [put(tmp_path / f"m{number:02}") for number in range(50)]
    async with bench_of(tmp_path, *bundles) as bench:
        put(bundles[17], version="8")
        outcomes = dict(await bench.now())
        assert bench.opened == ["m17"]
        assert outcomes.pop("m17") == "swapped"
        assert set(outcomes.values()) == {"unchanged"}


async def test_what_is_no_bundle_is_passed_over_with_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = put(tmp_path / "one")
    async with bench_of(tmp_path, one) as bench:
        (tmp_path / "notes.txt").write_text("no bundle")
        assert await bench.now() == [("one", "unchanged")]
    assert f"passed over: {tmp_path}/notes.txt is no folder; expected bundles, each a folder." in caplog.messages


async def test_one_whose_name_no_answer_can_tell_is_refused_in_words_that_can(tmp_path: Path) -> None:
    one = put(tmp_path / "one")
    async with bench_of(tmp_path, one) as bench:
        put(tmp_path / os.fsdecode(b"caf\xe9"))
        words = "The name of the bundle 'caf\\udce9' is not UTF-8; expected a name that is."
        assert words in await bench.refusal()
        assert list(bench.versions()) == ["one"]


async def test_a_bad_one_keeps_the_others_from_nothing(tmp_path: Path) -> None:
    bundles = [put(tmp_path / name) for name in ("a", "b")]
    async with bench_of(tmp_path, *bundles) as bench:
        corrupt(tmp_path / "a")
        put(tmp_path / "b", version="8")
        corrupt(put(tmp_path / "c"))
        detail = await bench.refusal()
        assert "a was refused: " in detail
        assert "c was refused: " in detail
        assert "b was refused" not in detail
        assert bench.versions() == {"a": "7", "b": "8"}


async def test_the_last_one_is_not_removed_for_one_that_is_refused(tmp_path: Path) -> None:
    bundle = put(tmp_path / "a")
    async with bench_of(tmp_path, bundle) as bench:
        bundle.rename(tmp_path / "b")
        corrupt(tmp_path / "b")
        assert "a was refused: Its bundle is gone, and no other can take its place." in await bench.refusal()
        assert bench.versions() == {"a": "7"}
        shutil.rmtree(tmp_path / "b")
        assert "has no fp32.onnx" in await bench.refusal()
        assert bench.versions() == {"a": "7"}


async def test_the_default_must_be_there(tmp_path: Path) -> None:
    bundles = [put(tmp_path / name) for name in ("a", "b")]
    async with bench_of(tmp_path, *bundles, default="b") as bench:
        shutil.rmtree(tmp_path / "b")
        assert "MIXER_DEFAULT_MODEL is b; the bundles are a." in await bench.refusal()
        assert bench.models.body().default == "b"


# --- what else is read anew ---


async def test_what_is_read_besides_is_refused_beside_the_bundles(tmp_path: Path) -> None:
    read: list[str] = []

    def refuse() -> None:
        raise BadSettings("The file is gone.")

    async with bench_of(put(tmp_path / "colours")) as bench:
        bench.reload_hooks |= {"keys": lambda: read.append("keys"), "locks": refuse}
        assert await bench.refusal() == "locks was refused: The file is gone."
        assert read == ["keys"]


async def test_a_reload_that_breaks_is_a_refusal_and_the_next_one_is_none(tmp_path: Path) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    async with bench_of(put(tmp_path / "colours")) as bench:
        bench.reload_hooks["keys"] = broken
        assert "The reload itself failed; the service's log says why." in await bench.refusal()
        del bench.reload_hooks["keys"]
        assert await bench.now() == [("colours", "unchanged")]


# --- several workers ---


def workers() -> tuple[WorkerContext, WorkerContext]:
    """Those of two workers on one board, as a supervisor gives them out."""
    shared_memory = SharedMemory(3)
    for number in range(2):
        segment = shared_memory.segment(number)
        for name in ("mixer_heartbeat", "mixer_connections", "mixer_reloaded", "mixer_refused", "mixer_reloads_asked"):
            segment.offset_of(f'["{name}"]')
    shared_memory.segment(2).offset_of('["mixer_reloads_asked"]')
    return WorkerContext(0, shared_memory, parent_pipe=0), WorkerContext(1, shared_memory, parent_pipe=0)


async def test_the_answer_waits_for_all_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = put(tmp_path / "colours")
    mine, others = workers()
    async with bench_of(bundle, worker=mine) as here, bench_of(bundle, worker=others) as there:
        monkeypatch.setattr("app.serving.reload._LOOK_AGAIN_S", 0)
        monkeypatch.setattr("app.system.worker_context._ALIVE_S", 600)  # nothing beats here, and this may take a while
        gate, honest = threading.Event(), there._open

        def slow(path: Path) -> Opened:
            gate.wait(60)
            return honest(path)

        there.reload._model_factory = ModelFactory(slow, there._build)
        for worker in (mine, others):
            worker.heartbeat()
        put(bundle, version="8")
        asking = asyncio.create_task(here.reload.now())
        while here.counted() != {"swapped": 1}:  # noqa: ASYNC110 -- it says so only there
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not asking.done()
        gate.set()
        assert (await asking).workers == 2
        assert here.versions() == there.versions() == {"colours": "8"}


async def test_a_worker_that_has_gone_is_not_waited_for(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours")
    mine, _ = workers()
    async with bench_of(bundle, worker=mine) as here:
        mine.heartbeat()
        assert (await here.reload.now()).workers == 1


async def test_another_workers_refusal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.system.worker_context._ALIVE_S", 600)
    bundle = put(tmp_path / "colours")
    mine, others = workers()
    async with bench_of(bundle, worker=mine) as here, bench_of(bundle, worker=others) as there:
        mine.heartbeat()
        others.heartbeat()

        def out_of_memory(path: Path) -> Opened:
            raise EngineError("There is no memory left.")

        there.reload._model_factory = ModelFactory(out_of_memory, there._build)
        put(bundle, version="8")
        assert await here.refusal() == "Worker 1 refused a bundle; the service's log says why."
        assert here.versions() == {"colours": "8"}
        assert there.versions() == {"colours": "7"}


async def test_one_that_takes_too_long_is_told_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.serving.reload._PATIENCE_S", 0.05)
    monkeypatch.setattr("app.system.worker_context._ALIVE_S", 600)
    mine, others = workers()
    bundle = put(tmp_path / "colours")
    async with bench_of(bundle, worker=mine) as here:
        others.heartbeat()
        with pytest.raises(DeadlinePassed, match=r"The reload takes more than 0 s; it goes on\."):
            await here.reload.now()


async def test_whoever_starts_later_need_not_follow_what_was_asked_before(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours")
    mine, others = workers()
    mine.ask_for_reload()
    async with bench_of(bundle, worker=others) as there:
        await asyncio.sleep(0)
        assert there.counted() == {}


def test_an_outcome_has_a_reason_only_where_it_is_refused() -> None:
    assert Outcome(name="a", outcome="swapped").reason is None


# --- the whole application ---

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@asynccontextmanager
async def served(bundle: Path, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(bundle=bundle, provider="cpu", instances=1, decode_threads=1, admin_keys=KEY, **options)
    application = main.create_service(settings).app
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://service") as client,
    ):
        yield client


async def test_an_operator_swaps_a_bundle_and_answers_name_the_new_one(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours")
    async with served(bundle) as http:
        headers = {"X-API-Key": KEY}
        put(bundle, version="8")
        assert (await http.post("/classify", content=image(RED))).json()["model"]["version"] == "7"
        answer = await http.post("/admin/reload", headers=headers)
        swapped = {"name": "colours", "outcome": "swapped", "reason": None, "changes": ["version '7' -> '8'"]}
        assert answer.json() == {"workers": 1, "models": [swapped]}
        assert (await http.post("/classify", content=image(RED))).json()["model"]["version"] == "8"
        corrupt(bundle)
        expect_problem(await http.post("/admin/reload", headers=headers), 409, "reload_refused", "colours was refused")
        assert (await http.post("/classify", content=image(RED))).json()["model"]["version"] == "8"
        samples = samples_of((await http.get("/metrics")).text)
        assert samples['mixer_reloads_total{outcome="refused"}'] == 1
        assert [name for name in samples if name.startswith("mixer_engine_info")] == [
            'mixer_engine_info{model="colours",precision="fp32",provider="cpu",version="8"}'
        ]


@pytest.mark.heavy
async def test_of_those_that_were_replaced_the_application_keeps_none(tmp_path: Path) -> None:
    bundle = put(tmp_path / "colours", name="kept")

    def kept() -> list[str]:
        gc.collect()
        found = [one for one in gc.get_objects() if type(one) is Classifier]  # isinstance would ask odd objects
        return [one.spec.version for one in found if one.spec.name == "kept"]

    async with served(bundle) as http:
        for version in ("8", "9"):
            put(bundle, name="kept", version=version)
            assert (await http.post("/classify", content=image(RED))).status_code == 200
            assert (await http.post("/admin/reload", headers={"X-API-Key": KEY})).status_code == 200
            while len(kept()) > 1 and any(task.get_name() == "leaving" for task in asyncio.all_tasks()):  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0)
            assert kept() == [version]


async def test_bundles_of_a_folder_answer_side_by_side(tmp_path: Path) -> None:
    put(tmp_path / "colours")
    write_bundle(tmp_path / "greys", color_spec(channels=1, name="greys", version="1"))
    async with served(tmp_path, default_model="greys") as http:
        listed = (await http.get("/models")).json()
        assert listed["default"] == "greys"
        assert [model["name"] for model in listed["models"]] == ["colours", "greys"]
        payload = image(BLUE)
        by_default = (await http.post("/classify?top_k=1", content=payload)).json()
        assert (by_default["model"]["name"], by_default["predictions"][0]["label"]) == ("greys", "dark")
        named = (await http.post("/classify?model=colours&top_k=1", content=payload)).json()
        assert (named["model"]["name"], named["predictions"][0]["label"]) == ("colours", "blue")
        assert (await http.post("/classify?top_k=3", content=payload)).status_code == 422
        assert (await http.get("/model?model=colours")).json()["spec"]["num_classes"] == 3
        samples = samples_of((await http.get("/metrics")).text)
        assert samples['mixer_model_predictions_total{label="blue",model="colours"}'] == 1
        assert samples['mixer_model_images_total{model="greys",outcome="classified"}'] == 1


def test_a_default_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    put(tmp_path / "colours")
    with pytest.raises(BadSettings, match=r"MIXER_DEFAULT_MODEL is greys; the bundles are colours\."):
        main.create_service(Settings(bundle=tmp_path, provider="cpu", instances=1, default_model="greys"))


def test_one_bad_bundle_of_a_folder_stops_the_start(tmp_path: Path) -> None:
    put(tmp_path / "a")
    corrupt(put(tmp_path / "b"))
    with pytest.raises(EngineError, match="cannot be opened"):
        main.create_service(Settings(bundle=tmp_path, provider="cpu", instances=1))
