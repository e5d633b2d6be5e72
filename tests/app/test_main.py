"""The composition root: what it builds, and what importing it does not load."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from app import composition, main
from app.engine.engine import Engine, EngineOptions
from app.engine.runners import SessionRunner
from app.errors import BadSettings, EngineError
from app.serving.bundles import Opened
from app.settings import Settings
from app.system.shared_memory import SharedMemory
from app.system.worker_context import WorkerContext
from tests.app.color_bundle import BLUE, color_spec, image, write_bundle
from tests.app.fakes import FakeSession, engine_of, means_of_colors, samples_of
from tests.app.servers import PATIENCE_S, ROOT, clean_environment

LEARNING = (
    "torch",
    "onnx",
    "onnxscript",
    "safetensors",
    "kornia",
    "model.network.mixer",
    "model.training.train",
    "export",
)


@pytest.mark.process
@pytest.mark.parametrize("module", ["app.main", "cli.main"])
def test_importing_the_service_loads_nothing_that_only_learning_needs(module: str) -> None:
    script = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT, env=clean_environment(), capture_output=True, check=True, timeout=PATIENCE_S, text=True,
    )  # fmt: skip
    loaded = json.loads(finished.stdout)
    assert module in loaded
    assert [name for name in loaded if name in LEARNING] == []
    assert finished.stderr == ""


def test_every_option_of_the_engine_comes_from_the_settings(bundle: Path) -> None:
    options: dict[str, Any] = {
        "bundle": bundle,
        "provider": "cpu",
        "precision": "fp32",
        "instances": 3,
        "intra_op_threads": 2,
        "max_batch_size": 5,
        "device_id": 1,
        "gpu_memory_bytes": 1 << 30,
        "tensorrt_cache": bundle,
        "bundle_key": bundle,
    }
    assert composition.engine_options(Settings(**options)) == EngineOptions(**options)
    assert {field.name for field in fields(EngineOptions)} == set(options)


def test_a_bundle_that_goes_while_it_is_opened_stops_the_start_in_one_line(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(bundle / "fp32.onnx"))

    monkeypatch.setattr(composition, "open_bundle", gone)
    with pytest.raises(EngineError) as refused:
        main.create_service(Settings(bundle=bundle))
    assert str(refused.value) == (
        f"The bundle {bundle} went or changed while it was opened: No such file or directory; expected it to stay."
    )


def several(folder: Path, *names: str, **changes: Any) -> Path:
    """A folder of bundles that differ in their names alone."""
    for name in names:
        write_bundle(folder / name, color_spec(**changes))
    return folder


def settings_for(folder: Path, **options: Any) -> Settings:
    return Settings(bundle=folder, provider="cpu", instances=1, intra_op_threads=1, **options)


def test_bundles_of_the_same_graphs_share_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several(tmp_path, "a", "b")
    several(tmp_path, "c", version="8")
    built: list[Engine] = []
    honest = composition.build_classifier
    monkeypatch.setattr(composition, "build_classifier", lambda *of, **more: built.append(of[1]) or honest(*of, **more))
    main.create_service(settings_for(tmp_path))
    a, b, c = (cast(SessionRunner, engine.pool[0].runner)._session for engine in built)
    assert a is b
    assert a is not c


@pytest.mark.parametrize("cpus", [1, 3])
def test_a_process_opens_as_many_bundles_at_once_as_it_has_cpus(
    cpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(cpus)
    honest = composition.open_bundle

    def open_bundle(*of: Any, **more: Any) -> Opened:
        together.wait(60)  # it breaks unless so many are here
        return honest(*of, **more)

    monkeypatch.setattr(composition, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(composition, "open_bundle", open_bundle)
    names = "abc"
    main.create_service(settings_for(several(tmp_path, *names)))
    assert together.n_waiting == 0


@pytest.mark.parametrize(
    ("provider", "cpus", "workers", "at_once"), [("cpu", 8, 2, 4), ("cpu", 2, 3, 1), ("cuda", 8, 1, 1)]
)
def test_workers_share_the_cpus_when_they_open_bundles_and_a_gpu_gets_one_at_a_time(
    provider: Any, cpus: int, workers: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "usable_cpus", lambda: cpus)
    assert composition.at_once(Settings(provider=provider), workers) == at_once


def test_a_pinned_worker_sees_its_own_cpus_alone_and_opens_a_bundle_on_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "usable_cpus", lambda: 4)
    assert composition.at_once(Settings(provider="cpu", pin_workers=True), 2) == 4


def test_the_first_bad_bundle_by_name_stops_the_start_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(tmp_path, "a", "d")
    for bad in "cb":
        (several(tmp_path, bad) / bad / "fp32.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(composition, "usable_cpus", lambda: 4)
    with pytest.raises(EngineError, match=rf"^{tmp_path}/b/fp32\.onnx cannot be opened on CPUExecutionProvider: "):
        main.create_service(settings_for(tmp_path))


def test_what_cannot_start_says_so_before_any_socket(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no fp32\.onnx"):
        main.create_service(Settings(bundle=tmp_path))
    with pytest.raises(BadSettings, match=r"^MIXER_API_KEYS, entry 1: the key has 5 characters"):
        main.create_service(Settings(bundle=tmp_path, api_keys="short"))


def test_an_application_opens_the_bundle_of_its_settings(bundle: Path) -> None:
    assert isinstance(main.create_service(Settings(bundle=bundle, provider="cpu", instances=1)).app, FastAPI)


async def test_the_lifespan_says_what_is_served(caplog: pytest.LogCaptureFixture) -> None:
    spec = color_spec(canary=None)
    app = main.create_service(Settings(), engine_of(FakeSession(spec), spec, instances=2)).app
    with caplog.at_level("INFO", "mixer.main"):
        async with app.router.lifespan_context(app):
            assert "serving colours 7 in fp32 on cpu, 2 instances (because)" in caplog.messages


async def test_one_instance_is_no_instances(caplog: pytest.LogCaptureFixture) -> None:
    spec = color_spec(canary=None)
    app = main.create_service(Settings(), engine_of(FakeSession(spec), spec, instances=1)).app
    with caplog.at_level("INFO", "mixer.main"):
        async with app.router.lifespan_context(app):
            assert "serving colours 7 in fp32 on cpu, 1 instance (because)" in caplog.messages


async def test_it_tells_what_an_operator_looks_for_first() -> None:
    spec = color_spec(canary=None)
    closed = Settings(
        workers=3,
        api_keys="a-key-of-sixteen-characters",
        cors_origins="https://a.example, https://b.example",
        dialects="oip, huggingface",
    )
    service = main.create_service(closed, engine_of(FakeSession(spec), spec))
    words = (
        "colours 7 in fp32; 3 workers; an API key is needed; CORS for https://a.example, https://b.example; "
        "protocols oip, huggingface; no gRPC"
    )
    assert service.state() == ("not ready yet", words)
    async with service.app.router.lifespan_context(service.app):
        assert service.state() == ("ready", words)


def test_it_tells_where_grpc_is_and_that_nothing_else_is_spoken() -> None:
    spec = color_spec(canary=None)
    service = main.create_service(Settings(dialects="none", grpc_port=8001), engine_of(FakeSession(spec), spec))
    assert service.state()[1].endswith("; no CORS; no protocols of others; gRPC on port 8001")


async def test_at_its_post_it_shows_a_pulse_and_stops_when_its_supervisor_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = color_spec(canary=None)
    ours, supervisors = os.pipe()
    shared_memory = SharedMemory(3)
    first, second = (WorkerContext(number, shared_memory, ours) for number in (0, 1))
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(told.set))
    try:
        app = main.create_service(Settings(), engine_of(FakeSession(spec), spec), first).app
        assert second.held_by_others() == []
        async with app.router.lifespan_context(app):
            first.hold(3)
            await asyncio.sleep(0)
            assert second.held_by_others() == [3]  # it is alive
            assert not told.is_set()
            os.close(supervisors)
            async with asyncio.timeout(PATIENCE_S):
                await told.wait()
        assert "the supervising process has gone; this worker ends too" in caplog.messages
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(ours)


async def test_workers_count_in_rows_of_their_own_and_show_the_sum() -> None:
    spec = color_spec(canary=None)
    shared_memory = SharedMemory(3)
    apps = [
        main.create_service(
            Settings(), engine_of(FakeSession(spec), spec), WorkerContext(number, shared_memory, parent_pipe=None)
        ).app
        for number in (0, 1)
    ]
    shown = []
    for app in apps:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            await client.post("/classify", content=b"no picture")
            shown.append(samples_of((await client.get("/metrics")).text))
    assert [samples['mixer_images_total{outcome="bad_picture"}'] for samples in shown] == [1, 2]


@pytest.mark.parametrize(
    ("what", "limit", "code"),
    [
        ("images", "queue_capacity", "queue_full"),
        ("upload_bytes", "upload_memory_bytes", "uploads_full"),
        ("decode_bytes", "decode_memory_bytes", "deadline_passed"),  # it waits until then
    ],
)
async def test_what_another_worker_has_of_a_limit_is_not_there_for_this_one(what: Any, limit: str, code: str) -> None:
    spec = color_spec(canary=None)
    shared_memory = SharedMemory(3)
    ours, theirs = (WorkerContext(number, shared_memory, parent_pipe=None) for number in (0, 1))
    settings = Settings(request_timeout_s=0.5)
    app = main.create_service(settings, engine_of(FakeSession(spec, means_of_colors), spec), ours).app
    taken = theirs.quota(what, getattr(settings, limit))
    assert taken.try_take(taken.limit)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        assert (await client.post("/classify", content=image(BLUE))).json()["code"] == code
        taken.give(taken.limit)
        async with asyncio.timeout(60):
            while (answer := await client.post("/classify", content=image(BLUE))).status_code != 200:
                assert answer.json()["code"] == "deadline_passed", answer.text  # on a slow machine
            while taken.taken:  # noqa: ASYNC110 -- a thread still decodes the first picture
                await asyncio.sleep(0.01)
    assert answer.json()["predictions"][0]["label"] == "blue"
