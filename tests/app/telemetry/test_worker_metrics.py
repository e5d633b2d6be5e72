"""What each worker has, told by whichever of them is asked."""

import json
from pathlib import Path

import pytest

from app.system.shared_memory import SharedMemory
from app.system.worker_context import WorkerContext
from app.system.worker_status import WorkerStatus
from app.telemetry import worker_metrics
from app.telemetry.metrics import Metrics
from tests.app.fakes import samples_of


def two_workers() -> tuple[list[WorkerContext], list[Metrics]]:
    """Two workers and a segment of their supervisor's."""
    shared_memory = SharedMemory(3)
    workers = [WorkerContext(number, shared_memory, parent_pipe=0) for number in range(2)]
    return workers, [Metrics(shared_memory, number) for number in range(2)]


def test_each_worker_has_a_number_of_its_own_whoever_is_asked() -> None:
    workers, metrics = two_workers()
    for number, (worker, counted) in enumerate(zip(workers, metrics, strict=True)):
        worker.heartbeat()
        worker.hold(10 + number)
        counted.depth(1, 2 + number)
        for _ in range(3 + number):
            counted.classified("red", 0.9, {})
    for asked in metrics:
        samples = samples_of(asked.render().decode())
        for number in range(2):
            assert samples[f'mixer_worker_connections{{worker="{number}"}}'] == 10 + number
            assert samples[f'mixer_worker_in_flight{{worker="{number}"}}'] == 2 + number
            assert samples[f'mixer_worker_images_total{{worker="{number}"}}'] == 3 + number
        assert samples["mixer_connections"] == 21
        assert 'mixer_worker_connections{worker="2"}' not in samples  # the supervisor is none


def test_a_worker_whose_process_has_ended_is_not_told_until_another_one_works() -> None:
    workers, metrics = two_workers()
    for worker, counted in zip(workers, metrics, strict=True):
        worker.heartbeat()
        counted.depth(0, 5)
        counted.of_workers.update()
    assert told_of(metrics[0]) == {"0", "1"}
    WorkerStatus(workers[1].shared_memory.segment(1)).forget()  # as the supervisor does
    assert told_of(metrics[0]) == {"0"}
    workers[1].heartbeat()
    assert told_of(metrics[0]) == {"0", "1"}


def test_who_is_asked_tells_of_itself_before_its_first_heartbeat() -> None:
    _, metrics = two_workers()
    assert [told_of(asked) for asked in metrics] == [{"0"}, {"1"}]


def told_of(asked: Metrics) -> set[str]:
    """The workers that are told, by whatever metric."""
    samples = samples_of(asked.render().decode())
    return {name.split('"')[1] for name in samples if '{worker="' in name}


def test_processor_time_and_memory_are_those_of_the_process() -> None:
    workers, metrics = two_workers()
    workers[0].heartbeat()
    metrics[0].of_workers.update()
    samples = samples_of(metrics[1].render().decode())
    for number in range(2):
        assert samples[f'mixer_worker_cpu_seconds_total{{worker="{number}"}}'] > 0
        assert samples[f'mixer_worker_resident_bytes{{worker="{number}"}}'] > 1 << 20


def test_without_proc_there_is_no_memory_to_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker_metrics, "_STATM", tmp_path / "none")
    assert samples_of(Metrics().render().decode())['mixer_worker_resident_bytes{worker="0"}'] == 0


def test_what_all_hold_of_a_limit_is_told_together() -> None:
    workers, metrics = two_workers()
    for worker in workers:
        worker.quota("upload_bytes", 1 << 30).try_take(1000)
        worker.quota("images", 10).try_take(2)
    samples = samples_of(metrics[0].render().decode())
    assert samples['mixer_in_use{of="upload_bytes"}'] == 2000
    assert samples['mixer_in_use{of="images"}'] == 4
    assert samples['mixer_in_use{of="decode_bytes"}'] == 0


def test_names_in_a_segment_are_those_of_the_metrics() -> None:
    metrics = Metrics()
    segments = metrics.of_workers._shared_memory.segments()
    named = {json.loads(name)[0] for name, _ in segments[0].read()}
    assert {"mixer_worker_cpu_seconds", "mixer_worker_resident_bytes", "mixer_in_flight", "mixer_images"} <= named
