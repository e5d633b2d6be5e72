"""A GPU that CUDA calls by a number, found among all that NVML knows; against a stand-in for the library."""

import ctypes
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from app.telemetry.nvml import NoGpu, Nvml, cuda_uuid

OWN = "11111111-2222-3333-4444-555555555555"


class FakeError(Exception):
    """pynvml.NVMLError."""


@dataclass(frozen=True)
class Memory:
    used: int
    total: int


@dataclass(frozen=True)
class Rates:
    gpu: int


class FakeNvml:
    """pynvml with the handles "0", "1", ... by UUID. `fails`: calls that the device does not support."""

    NVMLError = FakeError

    def __init__(self, *known: str, fails: tuple[str, ...] = ()) -> None:
        self._known, self._fails = known, fails
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            if name in self._fails:
                raise FakeError(f"{name}: Not Supported")
            return getattr(self, f"_{name}", lambda *_: None)(*arguments)

        if not name.startswith("nvml"):
            raise AttributeError(name)
        return call

    def _nvmlDeviceGetHandleByUUID(self, own: str) -> str:  # noqa: N802 -- the library's names
        if own not in self._known:
            raise FakeError("Not Found")
        return f"handle of {own}"

    def _nvmlDeviceIsMigDeviceHandle(self, handle: str) -> int:  # noqa: N802
        return int("MIG-" in handle)

    def _nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:  # noqa: N802
        return f"whole of {handle}"

    def _nvmlDeviceGetIndex(self, handle: str) -> int:  # noqa: N802
        return 3

    def _nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return handle.removeprefix("handle of ")

    def _nvmlDeviceGetName(self, handle: str) -> str:  # noqa: N802
        return "a card"

    def _nvmlDeviceGetMemoryInfo(self, handle: str) -> Memory:  # noqa: N802
        return Memory(10, 40)

    def _nvmlDeviceGetUtilizationRates(self, handle: str) -> Rates:  # noqa: N802
        return Rates(25)

    def _nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: N802
        return 61

    def _nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        return 150_500


def opened(module: FakeNvml) -> Nvml:
    return Nvml(1, module, lambda device_id: OWN)


def test_a_gpu_tells_everything() -> None:
    sample = opened(FakeNvml("GPU-other", f"GPU-{OWN}")).sample()
    assert (sample.index, sample.uuid, sample.name) == ("3", f"GPU-{OWN}", "a card")
    assert sample.values == {
        "memory_used_bytes": 10,
        "memory_bytes": 40,
        "utilization_ratio": 0.25,
        "temperature_celsius": 61,
        "power_watts": 150.5,
    }


def test_a_slice_has_memory_of_its_own_and_the_sensors_of_its_gpu() -> None:
    module = FakeNvml(f"MIG-{OWN}", fails=("nvmlDeviceGetUtilizationRates",))
    sample = opened(module).sample()
    assert (sample.index, sample.uuid) == ("3", f"MIG-{OWN}")
    assert sample.values == {
        "memory_used_bytes": 10,
        "memory_bytes": 40,
        "temperature_celsius": 61,
        "power_watts": 150.5,
    }
    asked = {call[0]: call[1] for call in module.calls if len(call) > 1}
    assert asked["nvmlDeviceGetMemoryInfo"] == f"handle of MIG-{OWN}"
    assert asked["nvmlDeviceGetTemperature"] == f"whole of handle of MIG-{OWN}"


def test_what_a_device_does_not_support_is_left_out() -> None:
    calls = ("MemoryInfo", "UtilizationRates", "Temperature", "PowerUsage")
    module = FakeNvml(f"GPU-{OWN}", fails=tuple(f"nvmlDeviceGet{call}" for call in calls))
    assert opened(module).sample().values == {}


def test_a_driver_that_knows_no_slices_has_none() -> None:
    module = FakeNvml(f"GPU-{OWN}", fails=("nvmlDeviceIsMigDeviceHandle",))
    assert opened(module).sample().index == "3"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (FakeNvml(fails=("nvmlInit",)), r"^NVML does not start: nvmlInit: Not Supported$"),
        (FakeNvml("GPU-other"), rf"^NVML knows no GPU and no slice {OWN}: Not Found$"),
    ],
)
def test_without_a_gpu_it_says_why(module: FakeNvml, words: str) -> None:
    with pytest.raises(NoGpu, match=words):
        opened(module)


def test_a_gpu_that_has_gone_is_told() -> None:
    nvml = opened(FakeNvml(f"GPU-{OWN}", fails=("nvmlDeviceGetIndex",)))
    with pytest.raises(NoGpu, match=r"^NVML does not answer: "):
        nvml.sample()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NoGpu, match=r"^nvidia-ml-py is not installed; the extra gpu has it\.$"):
        Nvml(0, uuid_of=lambda device_id: OWN)


class FakeDriver:
    """libcuda with one device, number 1. `fails`: the call that returns an error."""

    def __init__(self, fails: str = "") -> None:
        self._fails = fails

    def cuInit(self, flags: int) -> int:  # noqa: N802 -- the library's names
        return 100 if self._fails == "cuInit" else 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        ctypes.cast(device, ctypes.POINTER(ctypes.c_int))[0] = 7
        return 0 if ordinal == 1 else 101

    def cuDeviceGetUuid_v2(self, found: Any, device: Any) -> int:  # noqa: N802
        assert device.value == 7
        ctypes.memmove(found, uuid.UUID(OWN).bytes, 16)
        return 0


def test_cuda_tells_the_uuid_of_its_number() -> None:
    assert cuda_uuid(1, FakeDriver()) == OWN


@pytest.mark.parametrize(("device_id", "fails", "status"), [(1, "cuInit", 100), (2, "", 101)])
def test_what_cuda_does_not_know_is_an_error(device_id: int, fails: str, status: int) -> None:
    words = rf"^CUDA does not tell which GPU is its number {device_id}: error {status}\.$"
    with pytest.raises(NoGpu, match=words):
        cuda_uuid(device_id, FakeDriver(fails))


def test_without_a_driver_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.telemetry.nvml._DRIVER", "libnothing.so.1")
    with pytest.raises(NoGpu, match=r"^libnothing\.so\.1 cannot be loaded: "):
        cuda_uuid(0)
