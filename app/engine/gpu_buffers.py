"""Where the inputs and outputs of a bound graph lie, on the host and on the device. Knows nothing of graphs."""

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import DTypeLike, NDArray

from app.engine.pinned_buffer import host_rows


class DeviceArray(Protocol):
    """The part of onnxruntime.OrtValue that a lane uses: memory at one address for good."""

    def update_inplace(self, data: NDArray[Any]) -> None:
        """Copy `data`, of the same shape and type, into it."""
        ...

    def numpy(self) -> NDArray[Any]:
        """What it holds; on the CPU this is the memory itself."""
        ...


class Memory(Protocol):
    """What a lane takes once, before the first picture, and never again."""

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
        return np.zeros(shape, dtype=np.uint8) if self._name == "cpu" else host_rows(shape, self._device_id)

    def device(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Room that is not initialised."""
        value: DeviceArray = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            shape, dtype, self._name, self._device_id
        )
        return value
