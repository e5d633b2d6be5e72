"""Host memory that a GPU reads by itself: page-locked through the NVIDIA driver, ordinary where there is none.

A copy from page-locked memory is one transfer; from ordinary memory the driver first copies it to memory of its own.
"""

import ctypes
import logging
import mmap
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DRIVER = "libcuda.so.1"
_PORTABLE = 1  # for every context of the process

log = logging.getLogger("mixer.engine")


def host_rows(shape: tuple[int, ...], device_id: int, load: Callable[[str], Any] = ctypes.CDLL) -> NDArray[np.uint8]:
    """Zeros uint8 of `shape`, in whole pages of their own that GPU `device_id` may read directly."""
    pages = mmap.mmap(-1, int(np.prod(shape)))
    rows = np.frombuffer(pages, dtype=np.uint8).reshape(shape)
    try:
        driver = load(_DRIVER)
        _lock(driver, rows.ctypes.data, rows.nbytes, device_id)
        weakref.finalize(pages, driver.cuMemHostUnregister, ctypes.c_void_p(rows.ctypes.data)).atexit = False
    except OSError as error:
        log.warning("pictures are copied to the GPU from ordinary memory, which is slower: %s", error)
    return rows


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
