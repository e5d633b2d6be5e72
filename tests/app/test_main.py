"""The composition root: what it builds, and what importing it does not load."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from colour_bundle import colour_spec
from fakes import FakeSession, engine_of
from fastapi import FastAPI
from servers import ROOT, clean_environment

from app import main
from app.engine import EngineOptions
from app.errors import BadSettings, EngineError
from app.settings import Settings

LEARNING = ("torch", "onnx", "onnxscript", "safetensors", "kornia", "model.mixer", "model.train", "export")


@pytest.mark.parametrize("module", ["app.main", "app.cli"])
def test_importing_the_service_loads_nothing_that_only_learning_needs(module: str) -> None:
    script = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT, env=clean_environment(), capture_output=True, check=True, timeout=100, text=True,
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
        "lanes": 3,
        "intra_op_threads": 2,
        "max_batch_size": 5,
        "device_id": 1,
        "gpu_memory_bytes": 1 << 30,
        "tensorrt_cache": bundle,
    }
    assert main.engine_options(Settings(**options)) == EngineOptions(**options)
    assert {field.name for field in fields(EngineOptions)} == set(options)


def test_what_cannot_start_says_so_before_any_socket(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"has no fp32\.onnx"):
        main.create_app(Settings(bundle=tmp_path))
    with pytest.raises(BadSettings, match="An API key has 5 characters"):
        main.create_app(Settings(bundle=tmp_path, api_keys="short"))


def test_an_application_opens_the_bundle_of_its_settings(bundle: Path) -> None:
    assert isinstance(main.create_app(Settings(bundle=bundle, provider="cpu", lanes=1)), FastAPI)


def test_a_worker_sets_up_its_own_log(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[tuple[str, str]] = []
    monkeypatch.setattr(main.logs, "configure", lambda *options: configured.append(options))
    settings = Settings(bundle=bundle, provider="cpu", lanes=1, log_format="json", log_level="warning")
    assert isinstance(main.create_worker_app(settings), FastAPI)
    assert configured == [("json", "warning")]


async def test_the_lifespan_says_what_is_served(caplog: pytest.LogCaptureFixture) -> None:
    spec = colour_spec(canary=None)
    app = main.create_app(Settings(), engine_of(FakeSession(spec), spec, lanes=2))
    with caplog.at_level("INFO", "mixer.main"):
        async with app.router.lifespan_context(app):
            assert "serving colours 7 in fp32 on cpu, 2 lanes" in caplog.messages
