"""The section `http` of benchmarks/gpu.py: what clients saw becomes a load, tables and faults; no process stays."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distributions
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.on_gpu.http import loads, services, tables
from benchmarks.on_gpu.http.loads import Found, Load, load_of
from benchmarks.on_gpu.http.models import BARE_THREADS, ENGINE, rates_without_http
from benchmarks.on_gpu.http.services import Model, Plan, Started
from benchmarks.overload.client_processes import Seen
from benchmarks.overload.processor import Used
from benchmarks.serving.cells import Kind
from benchmarks.serving.workloads import Workload
from tests.pace import slowness_at_first

ROOT = Path(__file__).resolve().parents[3]
KIND = Kind("8x8 PNG", "default", 8, 8, "PNG")


def seen(*latencies_ms: float, client: float = 0.1, server: float = 0.0, **counts: Any) -> Seen:
    latencies_s = np.array(latencies_ms) / 1000
    fields: dict[str, Any] = {"answered": len(latencies_ms), "wrong": 0, "failed": {}}
    return Seen(2.0, latencies_s, **{**fields, **counts}, used=Used(client, server))


def load(rate_s: float, **changes: object) -> Load:
    fields: dict[str, Any] = {
        "rate_s": rate_s, "p50_ms": 5.0, "p99_ms": 9.0, "server_cpus": 4.0, "client_cpus": 1.0, "client_most": 0.5,
        "clients": 2, "images_a_run": 3.25, "answered": 10, "wrong": 0, "failed": {},
    }  # fmt: skip
    return Load(**{**fields, **changes})


def found(loads: Mapping[tuple[int, int], list[Load]], without_http: Mapping[str, float] | None = None) -> Found:
    model = Model("small", Path("bundles/small"), "fp16", Workload(KIND, (), {}), without_http or {})
    services = {workers: Started(1, (), 1.5, workers << 30) for workers in sorted({cell[0] for cell in loads})}
    return Found(model, services, loads=dict(loads))


def plan(tmp_path: Path, **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "provider": "cuda", "workers": (1, 2), "connections": (8,), "seconds": 1.0, "rounds": 1, "until": inf,
        "work": tmp_path, "used_bytes": lambda: 0,
    }  # fmt: skip
    return Plan(**{**fields, **changes})


# --- loads ---


def test_what_several_clients_saw_is_one_load() -> None:
    one = load_of([seen(1, 2, 3, server=1.5, client=0.3), seen(4, 100, client=0.9, failed={429: 2})], 7.0)
    assert one.rate_s == 5 / 2.0
    assert one.p50_ms == pytest.approx(3)
    assert one.p99_ms == pytest.approx(np.percentile([1, 2, 3, 4, 100], 99))
    assert (one.server_cpus, one.client_cpus, one.client_most, one.clients) == (1.5, pytest.approx(1.2), 0.9, 2)
    assert (one.answered, one.wrong, one.failed, one.images_a_run) == (5, 0, {429: 2}, 7.0)


def test_a_window_without_an_answer_has_no_percentiles() -> None:
    empty = load_of([seen()], 1.0)
    assert empty.rate_s == 0
    assert np.isnan(empty.p99_ms)


@pytest.mark.parametrize(
    ("connections", "cpus", "expected"), [(8, 16, 1), (32, 16, 2), (128, 16, 4), (256, 16, 4), (256, 2, 1)]
)
def test_few_client_processes_leave_the_cpus_to_the_service(connections: int, cpus: int, expected: int) -> None:
    assert loads._clients(connections, cpus) == expected


# --- what it comes to ---


def test_the_best_number_of_workers_is_that_of_the_best_median() -> None:
    here = found({(1, 8): [load(90), load(300), load(100)], (2, 8): [load(150)], (2, 32): [load(120)]})
    assert here.rate_s(1, 8) == 100
    assert here.best() == (2, 8)
    assert here.best(1) == (1, 8)
    assert tables.verdict(here) == ("Best: 2 workers, 150 images/s over 8 connections; 1 reaches 0.67 of it.")
    assert tables.verdict(found({})) == "Nothing was measured."


def test_the_tables_have_a_row_for_each_load_and_each_number_of_workers() -> None:
    here = found({(2, 8): [load(150)], (1, 8): [load(100, clients=1)]}, {ENGINE: 300.0, BARE_THREADS: 200.0})
    assert [tuple(row) for row in tables.load_rows(here)] == [
        (1, 8, "100", "5.0", "9.0", "4.0", "1.0", "3.2", ""),
        (2, 8, "**150**", "5.0", "9.0", "4.0", "1.0 in 2", "3.2", ""),
    ]
    heads = tables.service_heads(here, on_gpu=True)
    rows = [tuple(row) for row in tables.service_rows(here)]
    assert rows == [
        (1, "1.5", "1,024", "100", 8, "40.00", "0.33", "0.50"),
        (2, "1.5", "2,048", "150", 8, "26.67", "0.50", "0.75"),
    ]
    assert len(heads) == len(rows[0])
    assert heads[-2:] == ("of the engine", "of bare threads that decode and run")


def test_a_row_says_where_the_client_is_busy_and_what_was_refused() -> None:
    busy = load(100, client_most=0.93, failed={429: 3, 0: 1}, wrong=2)
    here = found({(1, 8): [busy, busy]})
    assert tables.note(here, 1, 8) == (
        "the client is busy: 93% of a core, 2 with no answer, 6 with status 429, 4 wrong"
    )
    assert tables.note(found({(1, 8): [load(0)]}), 1, 8) == "a window without an answer"


def test_wrong_answers_and_failures_are_faults_and_refusals_are_not() -> None:
    here = found({(1, 8): [load(9, wrong=2, failed={500: 1, 429: 7})], (2, 8): [load(0, answered=0)]})
    here.failures[4] = "it does not start: no memory"
    assert here.faults() == [
        "small, 4 workers: it does not start: no memory",
        "small, 1 workers, 8 connections: 2 answers with another label than the engine's",
        "small, 1 workers, 8 connections: 1 with status 500",
        "small, 2 workers, 8 connections: nothing was answered",
    ]


def test_rates_without_http_are_those_of_the_sections_that_ran() -> None:
    assert rates_without_http({}, "S/16") == {}
    ways = {"engine, 1 instance, fp16, from the host": 70.0, "engine, all instances, fp16, from the host": 90.0,
            "torch eager fp16, from the host": 500.0}  # fmt: skip
    throughput = {"S/16": {"images_s": {1: {}, 64: ways}}}
    path = {"model": [{"images_s": 40.0}, {"images_s": 80.0}], "ceiling": {"images_s": 30.0}}
    assert rates_without_http({"throughput": throughput}, "S/16") == {ENGINE: 90.0}
    assert rates_without_http({"end_to_end": {"S/16": path}}, "S/16") == {ENGINE: 80.0, BARE_THREADS: 30.0}
    both = rates_without_http({"throughput": throughput, "end_to_end": {"S/16": path}}, "S/16")
    assert both == {ENGINE: 90.0, BARE_THREADS: 30.0}


def test_after_the_time_limit_no_model_is_begun_and_a_service_lost_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def loaded(plan: object, service: Started, clients: object, requests: object, connections: int, _: int) -> Load:
        asked.append((service.port, connections))
        if service.port == 1:
            raise OSError("Connection refused")
        return load(10)

    monkeypatch.setattr(loads, "_loaded", loaded)
    monkeypatch.setattr(loads, "requests_of", lambda *_: [])
    here = found({})
    here.services.update({1: Started(1, (), 1.0, 0), 2: Started(2, (), 1.0, 0)})
    terms = plan(tmp_path, connections=(8, 32), rounds=2)
    loads._load_in_turns(terms, here, SimpleNamespace(), lambda: None)  # type: ignore[arg-type]
    assert asked == [(1, 8), (2, 8), (2, 32), (2, 8), (2, 32)]
    assert here.failures == {1: "lost in round 1 with 8 connections: Connection refused"}
    late = found({})
    late.services[1] = Started(1, (), 1.0, 0)
    loads._load_in_turns(plan(tmp_path, until=0.0), late, SimpleNamespace(), lambda: None)  # type: ignore[arg-type]
    assert late.loads == {}
    assert late.unfinished == "out of time in round 1 of 1"


# --- services ---


def test_a_service_is_told_provider_workers_and_which_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    service = services.configuration(plan(tmp_path), found({}).model, 4)
    assert service.command[-6:] == (sys.executable, "-m", "cli", "serve", "--port", "{port}")
    assert {name: service.variables[name] for name in ("MIXER_PROVIDER", "MIXER_WORKERS", "MIXER_PRECISION")} == {
        "MIXER_PROVIDER": "cuda", "MIXER_WORKERS": "4", "MIXER_PRECISION": "fp16",
    }  # fmt: skip
    assert service.variables["CUDA_VISIBLE_DEVICES"] == "3"
    assert Path(service.variables["MIXER_BUNDLE"]).is_absolute()


def test_a_service_finds_its_packages_where_the_script_does_and_its_version_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script_folder = str(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "path", [script_folder, "site", *sys.path])
    installed = services.import_path(tmp_path)
    assert installed[:2] == [str(ROOT), str(Path("site").resolve())]
    assert script_folder not in installed

    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(services, "version", unknown)
    bare = services.import_path(tmp_path)
    assert bare[0] == str(ROOT)
    (told,) = distributions(path=[bare[1]])
    assert told.metadata["Name"] == "mixer-serve"


def test_a_service_finds_the_libraries_of_cuda_beside_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime may lie in another folder, where it looks for them in vain."""
    for folder in ("one/nvidia/cu13/lib", "one/nvidia/cu13/include", "two/nvidia/cudnn/lib"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "one"), str(tmp_path / "two")])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")
    assert services.library_path() == [
        str(tmp_path / "one/nvidia/cu13/lib"), str(tmp_path / "two/nvidia/cudnn/lib"), "/usr/local/cuda/lib64",
    ]  # fmt: skip


PROGRAM = """
import subprocess, sys, time
from pathlib import Path
from benchmarks.on_gpu.http import services, test_http

plan = test_http.plan(Path(sys.argv[1]))
guard = services.configuration(plan, test_http.found({}).model, 1).command[:-6]
with services.leaving_nothing():
    subprocess.Popen([*guard, "sh", "-c", "echo $$; exec sleep 600"], start_new_session=True)
    while True:
        time.sleep(0.02)
"""


@pytest.mark.process
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_nothing_that_it_started_stays(stop: signal.Signals, tmp_path: Path) -> None:
    if stop == signal.SIGKILL and shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        started = int(process.stdout.readline())
        process.send_signal(stop)
        try:
            process.communicate(timeout=30 * slowness_at_first())  # which has an end when `started` has, too
        except subprocess.TimeoutExpired:
            os.kill(started, signal.SIGKILL)
            raise
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT, signal.SIGKILL: -9}[stop]
