"""How many workers, lanes and threads: the CPUs are used and not oversubscribed, and what was chosen is kept."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from app import plan
from app.settings import Settings

GIGABYTE = 10**9


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`on(cpus, gpu=..., memory=...)` and from then on the machine is such a one."""

    def machine(cpus: int, *, gpu: bool = False, memory: int | None = None) -> None:
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if gpu else ["CPUExecutionProvider"]
        monkeypatch.setattr(plan, "usable_cpus", lambda: cpus)
        monkeypatch.setattr(plan, "memory_bytes", lambda: memory)
        monkeypatch.setattr(plan.onnxruntime, "get_available_providers", lambda: providers)

    return machine


def shape(**options: Any) -> tuple[int, int, int, int]:
    """(workers, lanes, threads of a run, threads that decode) of what is planned."""
    planned = plan.planned(Settings(**options))
    return planned.workers, planned.lanes, planned.intra_op_threads, planned.decode_threads


@pytest.mark.parametrize(
    ("cpus", "options", "expected"),
    [
        (1, {}, (1, 1, 1, 1)),
        (2, {}, (2, 1, 1, 1)),
        (8, {}, (8, 1, 1, 1)),
        (40, {}, (16, 2, 1, 2)),  # no more than 16, each with more lanes
        (8, {"workers": 1}, (1, 8, 1, 8)),
        (8, {"workers": 2}, (2, 4, 1, 4)),
        (8, {"workers": 3}, (3, 2, 1, 2)),
        (2, {"workers": 4}, (4, 1, 1, 1)),  # as told, too many as they are
        (8, {"lanes": 2}, (4, 2, 1, 2)),
        (8, {"intra_op_threads": 4}, (2, 1, 4, 4)),
        (8, {"lanes": 2, "intra_op_threads": 2}, (2, 2, 2, 4)),
        (8, {"lanes": 3, "intra_op_threads": 3}, (1, 3, 3, 8)),
        (2, {"lanes": 4}, (1, 4, 1, 2)),
        (8, {"workers": 1, "lanes": 2}, (1, 2, 4, 8)),
        (8, {"decode_threads": 3}, (8, 1, 1, 3)),
    ],
)
def test_on_a_cpu_workers_lanes_and_threads_fill_the_cpus(
    cpus: int, options: dict[str, int], expected: tuple[int, int, int, int], on: Any
) -> None:
    on(cpus)
    assert shape(**options) == expected


@pytest.mark.parametrize("provider", ["auto", "cuda", "tensorrt"])
def test_on_a_gpu_one_process_keeps_it_busy_and_the_rest_is_left_to_the_engine(provider: str, on: Any) -> None:
    on(8, gpu=True)
    assert shape(provider=provider) == (1, 0, 0, 8)
    assert shape(provider=provider, workers=2, lanes=3, intra_op_threads=1) == (2, 3, 1, 4)


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
    memory: int | None, decode_memory_bytes: int, workers: int, on: Any
) -> None:
    on(8, memory=memory)
    assert shape(decode_memory_bytes=decode_memory_bytes)[0] == workers


def test_what_was_asked_for_is_not_taken_back_for_want_of_memory(on: Any) -> None:
    on(8, memory=GIGABYTE)
    assert shape(workers=6)[0] == 6


def test_where_processes_cannot_fork_there_is_one(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on(8)
    monkeypatch.delattr(plan.os, "fork")
    assert shape() == (1, 8, 1, 8)


few = st.integers(0, 6)


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cpus=st.integers(1, 64), workers=few, lanes=few, threads=few)
def test_what_is_left_open_is_filled_in_and_what_was_said_is_kept(
    cpus: int, workers: int, lanes: int, threads: int, on: Any
) -> None:
    on(cpus)
    asked = Settings(workers=workers, lanes=lanes, intra_op_threads=threads, port=9000)
    planned = plan.planned(asked)
    assert min(planned.workers, planned.lanes, planned.intra_op_threads, planned.decode_threads) >= 1
    assert planned.port == 9000
    for name in ("workers", "lanes", "intra_op_threads"):
        assert getattr(asked, name) in (0, getattr(planned, name))
    if workers == 0 and lanes * threads <= cpus and max(lanes, threads) <= cpus:
        assert planned.workers * planned.lanes * planned.intra_op_threads <= cpus
    assert plan.planned(planned) == planned
