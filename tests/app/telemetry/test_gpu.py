"""A GPU is sampled beside everything else: fresh numbers are told, and a driver that hangs delays nobody."""

import threading
from collections.abc import Callable

import pytest

from app.telemetry.gpu import STALE_S, GpuMetrics
from app.telemetry.metrics import Metrics
from app.telemetry.nvml import GpuSample, NoGpu
from tests.app.fakes import samples_of
from tests.app.servers import PATIENCE_S, until

SAMPLE = GpuSample("0", "GPU-1", "a card", {"memory_bytes": 40, "memory_used_bytes": 10, "temperature_celsius": 61})
OF = '{gpu="0",name="a card",uuid="GPU-1"}'


def told(gpu: GpuMetrics) -> dict[str, float]:
    metrics = Metrics()
    metrics.register(gpu)
    return {name: value for name, value in samples_of(metrics.render().decode()).items() if "_gpu_" in name}


def test_what_was_sampled_is_told_and_what_the_device_does_not_know_is_not() -> None:
    gpu = GpuMetrics(lambda: lambda: SAMPLE)
    gpu.start()
    until(lambda: bool(told(gpu)))
    gpu.close()
    assert told(gpu) == {
        f"mixer_gpu_memory_bytes{OF}": 40,
        f"mixer_gpu_memory_used_bytes{OF}": 10,
        f"mixer_gpu_temperature_celsius{OF}": 61,
    }


def test_where_nothing_runs_on_a_gpu_nothing_is_told() -> None:
    def never() -> Callable[[], GpuSample]:
        raise AssertionError("nothing is opened before the start")

    assert told(GpuMetrics(never)) == {}


def test_a_driver_that_hangs_costs_its_own_numbers_and_no_scrape() -> None:
    now, hangs, released = [0.0], threading.Event(), threading.Event()
    samples = iter([SAMPLE])

    def sample() -> GpuSample:
        for one in samples:
            return one
        hangs.set()
        assert released.wait(PATIENCE_S)
        raise NoGpu("at the end of the test")

    gpu = GpuMetrics(lambda: sample, clock=lambda: now[0], interval_s=0)
    gpu.start()
    assert hangs.wait(PATIENCE_S)
    assert told(gpu)
    now[0] = STALE_S + 1
    assert told(gpu) == {}
    gpu.close()
    released.set()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (NoGpu("NVML does not start: no driver"), "NVML does not start: no driver"),
        (AttributeError("undefined symbol: cuInit"), "AttributeError('undefined symbol: cuInit')"),
    ],
    ids=["known", "of an old driver"],
)
def test_why_there_is_nothing_is_said_once_and_it_is_tried_again(
    failure: Exception, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[int] = []
    enough = threading.Event()

    def fail() -> Callable[[], GpuSample]:
        opened.append(1)
        if len(opened) == 3:
            enough.set()
        raise failure

    gpu = GpuMetrics(fail, patience_s=0)
    gpu.start()
    assert enough.wait(PATIENCE_S)
    gpu.close()
    said = [record.getMessage() for record in caplog.records if record.name == "mixer.gpu"]
    assert said.count(f"no metrics of the GPU: {words}") == 1  # a thread of another test may say that it ends
