"""Where the inputs and outputs of a bound graph lie, on the host and on the device. Knows nothing of graphs.

Host memory that a GPU reads by itself is page-locked through the NVIDIA driver, ordinary where there is none. A copy
from page-locked memory is one transfer; from ordinary memory the driver first copies it to memory of its own.
"""

import ctypes
import logging
import mmap
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

_DRIVER = "libcuda.so.1"
_PORTABLE = 1  # for every context of the process

log = logging.getLogger("mixer.engine")


class DeviceArray(Protocol):
    """The part of onnxruntime.OrtValue that an instance uses: memory at one address for good."""

    def update_inplace(self, data: NDArray[Any]) -> None:
        """Copy `data`, of the same shape and type, into it."""
        ...

    def numpy(self) -> NDArray[Any]:
        """What it holds; on the CPU this is the memory itself."""
        ...


class Memory(Protocol):
    """What an instance takes once, before the first picture, and never again."""

    def host(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Zeros on the host, from where copies to the device start."""
        ...

    def device(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Room on the device."""
        ...


class OrtMemory:
    """Memory of ONNX Runtime's device `name`, "cuda" or "cpu"."""

    def __init__(self, name: str, device_id: int) -> None:
        self._name = name
        self._device_id = device_id

    def host(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Zeros uint8; page-locked for a GPU."""
        return np.zeros(shape, dtype=np.uint8) if self._name == "cpu" else pinned_buffer(shape, self._device_id)

    def device(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Room that is not initialised."""
        value: DeviceArray = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            shape, dtype, self._name, self._device_id
        )
        return value


def pinned_buffer(
    shape: tuple[int, ...], device_id: int, load: Callable[[str], Any] = ctypes.CDLL
) -> NDArray[np.uint8]:
    """Zeros uint8 of `shape`, in whole pages of their own that GPU `device_id` may read directly."""
    mapping = mmap.mmap(-1, int(np.prod(shape)))
    pinned = np.frombuffer(mapping, dtype=np.uint8).reshape(shape)
    try:
        driver = load(_DRIVER)
        _lock(driver, pinned.ctypes.data, pinned.nbytes, device_id)
        weakref.finalize(mapping, driver.cuMemHostUnregister, ctypes.c_void_p(pinned.ctypes.data)).atexit = False
    except OSError as error:
        log.warning("pictures are copied to the GPU from ordinary memory, which is slower: %s", error)
    return pinned


def _lock(driver: Any, address: int, size_bytes: int, device_id: int) -> None:
    """Lock the pages in the context that ONNX Runtime uses, the device's primary one. Raises OSError."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _call(driver.cuInit, 0)
    _call(driver.cuDeviceGet, ctypes.byref(device), device_id)
    _call(driver.cuDevicePrimaryCtxRetain, ctypes.byref(context), device)
    _call(driver.cuCtxSetCurrent, context)
    _call(driver.cuMemHostRegister_v2, ctypes.c_void_p(address), ctypes.c_size_t(size_bytes), _PORTABLE)


def _call(function: Any, *arguments: object) -> None:
    status = function(*arguments)
    if status != 0:
        raise OSError(f"{function.__name__} answers {status}; expected 0.")
