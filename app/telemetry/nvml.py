"""What NVIDIA's management library tells of the GPU that CUDA calls by a number. It is imported when it is asked.

CUDA counts the devices that CUDA_VISIBLE_DEVICES leaves, in an order of its own; NVML counts all of the machine. What
both know is the UUID, which for a slice of a GPU (MIG) is the slice's own. Knows nothing of metrics.
"""

import ctypes
import importlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_DRIVER = "libcuda.so.1"
_TEMPERATURE_GPU = 0  # NVML's word for the sensor of the chip itself


class NoGpu(Exception):
    """Why nothing can be told."""


@dataclass(frozen=True)
class GpuSample:
    """A GPU at one moment. `values`: what it tells, by the end of a metric's name; a slice tells less than a GPU.

    `index`: as nvidia-smi counts; of a slice, that of its GPU.
    """

    index: str
    uuid: str
    name: str
    values: Mapping[str, float]


class Nvml:
    """One device. `module`: pynvml, or what stands in for it; `uuid_of`: a device's UUID by CUDA's number.

    Any call may take any time: whoever asks has a thread for that. Raises: NoGpu.
    """

    def __init__(self, device_id: int, module: Any = None, uuid_of: Callable[[int], str] | None = None) -> None:
        self._module = module or _pynvml()
        self._error: type[Exception] = self._module.NVMLError
        own = (uuid_of or cuda_uuid)(device_id)
        try:
            self._module.nvmlInit()
        except self._error as error:
            raise NoGpu(f"NVML does not start: {error}") from error
        self._device = self._found(own)
        self._whole = self._whole_of(self._device)

    def sample(self) -> GpuSample:
        """The device now."""
        module = self._module
        try:
            index = str(module.nvmlDeviceGetIndex(self._whole))
            own, name = module.nvmlDeviceGetUUID(self._device), module.nvmlDeviceGetName(self._device)
        except self._error as error:
            raise NoGpu(f"NVML does not answer: {error}") from error
        return GpuSample(index, str(own), str(name), dict(self._values()))

    def _values(self) -> Iterator[tuple[str, float]]:
        """What the device tells of itself; what it does not support is left out."""
        module, device, whole = self._module, self._device, self._whole
        with suppress(self._error):
            memory = module.nvmlDeviceGetMemoryInfo(device)
            yield from (("memory_used_bytes", memory.used), ("memory_bytes", memory.total))
        with suppress(self._error):
            yield "utilization_ratio", module.nvmlDeviceGetUtilizationRates(device).gpu / 100
        with suppress(self._error):
            yield "temperature_celsius", module.nvmlDeviceGetTemperature(whole, _TEMPERATURE_GPU)
        with suppress(self._error):
            yield "power_watts", module.nvmlDeviceGetPowerUsage(whole) / 1000

    def _found(self, own: str) -> Any:
        try:
            return self._module.nvmlDeviceGetHandleByUUID(f"GPU-{own}")
        except self._error:
            pass  # it may be a slice
        try:
            return self._module.nvmlDeviceGetHandleByUUID(f"MIG-{own}")
        except self._error as error:
            raise NoGpu(f"NVML knows no GPU and no slice {own}: {error}") from error

    def _whole_of(self, device: Any) -> Any:
        """The GPU that has the sensors: a slice has none of its own."""
        with suppress(self._error):  # a driver that knows no slices has none
            if self._module.nvmlDeviceIsMigDeviceHandle(device):
                return self._module.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)
        return device


def cuda_uuid(device_id: int, driver: Any = None) -> str:
    """The UUID of the device that CUDA calls by this number, without its prefix. Raises NoGpu."""
    try:
        driver = driver or ctypes.CDLL(_DRIVER)
    except OSError as error:
        raise NoGpu(f"{_DRIVER} cannot be loaded: {error}") from error
    device, found = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), device_id),
        lambda: driver.cuDeviceGetUuid_v2(ctypes.byref(found), device),
    )
    for call in calls:
        if status := call():
            raise NoGpu(f"CUDA does not tell which GPU is its number {device_id}: error {status}.")
    return str(uuid.UUID(bytes=bytes(found)))


def _pynvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError as error:
        raise NoGpu("nvidia-ml-py is not installed; the extra gpu has it.") from error
