"""How many workers, instances and threads: the CPUs are used and not oversubscribed, and what was chosen is kept."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app.engine import mapped_graphs
from app.server import topology
from app.settings import Settings

GIGABYTE = 10**9


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`on(cpus, gpu=..., memory=..., has_room=...)` and from then on the machine is such a one."""

    def machine(cpus: int, *, gpu: bool = False, memory: int | None = None, has_room: bool = True) -> None:
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
        monkeypatch.setattr(topology, "usable_cpus", lambda: cpus)
        monkeypatch.setattr(topology, "memory_bytes", lambda: memory)
        room = GIGABYTE * GIGABYTE if has_room else 0
        monkeypatch.setattr(mapped_graphs.shutil, "disk_usage", lambda _: SimpleNamespace(free=room))
        monkeypatch.setattr(topology.onnxruntime, "get_available_providers", lambda: providers)

    return machine


def shape(**options: Any) -> tuple[int, int, int, int]:
    """(workers, instances, threads of a run, threads that decode) of what is planned."""
    planned = topology.planned(Settings(**options))
    return planned.workers, planned.instances, planned.intra_op_threads, planned.decode_threads


@pytest.mark.parametrize(
    ("cpus", "options", "expected"),
    [
        (1, {}, (1, 1, 1, 1)),
        (2, {}, (2, 1, 1, 1)),
        (8, {}, (8, 1, 1, 1)),
        (40, {}, (16, 2, 1, 2)),  # no more than 16, each with more instances
        (8, {"workers": 1}, (1, 8, 1, 8)),
        (8, {"workers": 2}, (2, 4, 1, 4)),
        (8, {"workers": 3}, (3, 2, 1, 2)),
        (2, {"workers": 4}, (4, 1, 1, 1)),  # as told, too many as they are
        (8, {"instances": 2}, (4, 2, 1, 2)),
        (8, {"intra_op_threads": 4}, (2, 1, 4, 4)),
        (8, {"instances": 2, "intra_op_threads": 2}, (2, 2, 2, 4)),
        (8, {"instances": 3, "intra_op_threads": 3}, (1, 3, 3, 8)),
        (2, {"instances": 4}, (1, 4, 1, 2)),
        (8, {"workers": 1, "instances": 2}, (1, 2, 4, 8)),
        (8, {"decode_threads": 3}, (8, 1, 1, 3)),
    ],
)
def test_on_a_cpu_workers_instances_and_threads_fill_the_cpus(
    cpus: int, options: dict[str, int], expected: tuple[int, int, int, int], on: Any
) -> None:
    on(cpus)
    assert shape(**options) == expected


@pytest.mark.parametrize("provider", ["auto", "cuda", "tensorrt"])
def test_on_a_gpu_one_process_keeps_it_busy_and_the_rest_is_left_to_the_engine(provider: str, on: Any) -> None:
    on(8, gpu=True)
    assert shape(provider=provider) == (1, 0, 0, 8)
    assert shape(provider=provider, workers=2, instances=3, intra_op_threads=1) == (2, 3, 1, 4)


def test_a_cpu_that_is_asked_for_beside_a_gpu_is_one(on: Any) -> None:
    on(4, gpu=True)
    assert shape(provider="cpu") == (4, 1, 1, 1)


def test_a_gpu_that_is_asked_for_and_missing_is_the_engines_to_refuse(on: Any) -> None:
    on(4)
    assert shape(provider="cuda") == (1, 0, 0, 4)


@pytest.mark.parametrize(
    ("memory", "decode_memory_bytes", "workers"),
    [
        (None, 350_000_000, 8),
        (GIGABYTE, 350_000_000, 4),  # each takes 110 MB, beside 128 MiB for uploads that they share
        (GIGABYTE, 690_000_000, 1),
        (GIGABYTE // 2, 350_000_000, 1),
        (100, 350_000_000, 1),  # too little for any: one is started, and what happens is the operator's to see
        (100 * GIGABYTE, 350_000_000, 8),
        (GIGABYTE, 90_000_000, 7),
    ],
)
def test_no_more_workers_than_fit_the_containers_memory(
    memory: int | None, decode_memory_bytes: int, workers: int, on: Any, tmp_path: Path
) -> None:
    on(8, memory=memory)
    bundle = written(tmp_path / "one", 1_200_000)
    assert shape(bundle=bundle, decode_memory_bytes=decode_memory_bytes)[0] == workers


def written(bundle: Path, graph_bytes: int, precision: str = "fp32") -> Path:
    """A bundle whose graph has so many bytes, none of them written to the disk."""
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / f"{precision}.onnx").touch()
    os.truncate(bundle / f"{precision}.onnx", graph_bytes)
    return bundle


@pytest.mark.parametrize(
    ("models", "graph_bytes", "workers"),
    [
        (1, 1_200_000, 4),
        (50, 1_200_000, 2),  # 135 MB more in each
        (200, 1_200_000, 1),
        (1, 1_000_000, 4),
        (1, 50_000_000, 2),  # a large model counts as well as many
        (1, 500_000_000, 1),
    ],
)
def test_models_count_in_the_memory_of_a_worker_by_their_number_and_size(
    models: int, graph_bytes: int, workers: int, on: Any, tmp_path: Path
) -> None:
    on(8, memory=GIGABYTE)
    for number in range(models):
        written(tmp_path / f"m{number}", graph_bytes)
    assert shape(bundle=tmp_path, decode_memory_bytes=350_000_000)[0] == workers


def test_a_shadow_counts_as_one_more_model_unless_it_is_one_of_them(on: Any, tmp_path: Path) -> None:
    on(8, memory=GIGABYTE)
    for name in ("several/a", "several/b", "apart"):
        written(tmp_path / name, 30_000_000)
    memory = {"decode_memory_bytes": 350_000_000}
    assert shape(bundle=tmp_path / "apart", **memory)[0] == 3
    assert shape(bundle=tmp_path / "apart", shadow=tmp_path / "several" / "a", **memory)[0] == 2
    assert shape(bundle=tmp_path / "several", **memory)[0] == 2
    assert shape(bundle=tmp_path / "several", shadow=Path("b"), **memory)[0] == 2


def test_of_a_models_graphs_the_one_that_runs_counts(on: Any, tmp_path: Path) -> None:
    on(8, memory=GIGABYTE)
    written(tmp_path, 200_000_000, "fp32")
    written(tmp_path, 1_000_000, "fp16")
    memory = {"decode_memory_bytes": 350_000_000}
    assert shape(bundle=tmp_path, precision="fp32", **memory)[0] == 1
    assert shape(bundle=tmp_path, precision="fp16", **memory)[0] == 4


@pytest.mark.parametrize(
    ("has_room", "workers", "words"),
    [
        (False, 3, "148 MB each (models: 2), and 485 MB for pictures"),
        (True, 4, "108 MB each (models: 2), and 565 MB for pictures and the graphs that all share"),
    ],
)
def test_where_memory_decides_the_log_says_what_takes_it(
    has_room: bool, workers: int, words: str, on: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on(8, memory=GIGABYTE, has_room=has_room)
    for name in ("a", "b"):
        written(tmp_path / name, 10_000_000)
    with caplog.at_level("INFO", "mixer.plan"):
        assert shape(bundle=tmp_path, decode_memory_bytes=350_000_000)[0] == workers
    assert caplog.messages == [f"memory is limited to 1000 MB: room for {workers} of 8 workers of {words}"]


def test_where_not_even_one_worker_fits_the_log_warns(
    on: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on(1, memory=GIGABYTE)
    assert shape(bundle=written(tmp_path, 300_000_000), decode_memory_bytes=350_000_000)[0] == 1
    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert warning.message == (
        "memory is limited to 1000 MB; expected 708 MB for one worker (models: 1) and 485 MB for pictures"
    )


def test_where_there_is_room_enough_the_log_says_nothing(
    on: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    on(4, memory=GIGABYTE)
    with caplog.at_level("INFO", "mixer.plan"):
        assert shape(bundle=written(tmp_path, 1_000_000), decode_memory_bytes=350_000_000)[0] == 4
    assert caplog.messages == []


def test_a_bundle_that_is_not_there_is_the_starts_to_refuse(on: Any, tmp_path: Path) -> None:
    on(8, memory=GIGABYTE)
    assert shape(bundle=tmp_path / "none", decode_memory_bytes=350_000_000)[0] == 4


def test_what_was_asked_for_is_not_taken_back_for_want_of_memory(on: Any) -> None:
    on(8, memory=GIGABYTE)
    assert shape(workers=6)[0] == 6


def test_where_processes_cannot_fork_there_is_one(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on(8)
    monkeypatch.delattr(topology.os, "fork")
    assert shape() == (1, 8, 1, 8)


few = st.integers(0, 6)


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cpus=st.integers(1, 64), workers=few, instances=few, threads=few)
def test_what_is_left_open_is_filled_in_and_what_was_said_is_kept(
    cpus: int, workers: int, instances: int, threads: int, on: Any
) -> None:
    on(cpus)
    asked = Settings(workers=workers, instances=instances, intra_op_threads=threads, port=9000)
    planned = topology.planned(asked)
    assert min(planned.workers, planned.instances, planned.intra_op_threads, planned.decode_threads) >= 1
    assert planned.port == 9000
    for name in ("workers", "instances", "intra_op_threads"):
        assert getattr(asked, name) in (0, getattr(planned, name))
    if workers == 0 and instances * threads <= cpus and max(instances, threads) <= cpus:
        assert planned.workers * planned.instances * planned.intra_op_threads <= cpus
    assert topology.planned(planned) == planned


def test_processors_that_something_else_shares_out_are_taken_as_they_are() -> None:
    settings = topology.planned(Settings(provider="cpu", workers=1), cpus=3)
    assert (settings.instances, settings.intra_op_threads, settings.decode_threads) == (3, 1, 3)
