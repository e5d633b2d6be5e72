"""Page-locked memory, asked of a fake driver; and ordinary memory where there is none."""

import gc
import logging
from typing import Any

import numpy as np
import pytest

from app.engine.gpu_buffers import pinned_buffer

SHAPE = (3, 4, 48)
CALLS = ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemHostRegister_v2")


class FakeDriver:
    """NVIDIA's driver, as far as it is called. `refuses` names the function that answers 999."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.calls.append((name, tuple(getattr(argument, "value", argument) for argument in arguments)))
            return 999 if name == self.refuses else 0

        function.__name__ = name
        return function


def test_the_rows_are_locked_in_the_devices_primary_context_and_unlocked_with_their_end() -> None:
    driver = FakeDriver()
    pinned = pinned_buffer(SHAPE, 1, lambda name: {"libcuda.so.1": driver}[name])
    assert (pinned.shape, pinned.dtype) == (SHAPE, np.uint8)
    assert not pinned.any()
    assert [name for name, _ in driver.calls] == list(CALLS)
    assert driver.calls[1][1][1] == 1  # the device's number
    address = pinned.ctypes.data
    assert driver.calls[-1][1] == (address, 3 * 4 * 48, 1)
    assert address % 4096 == 0
    part = pinned[:1]
    del pinned
    gc.collect()
    assert len(driver.calls) == len(CALLS)  # a part of them is still in use
    del part
    gc.collect()
    assert driver.calls[len(CALLS) :] == [("cuMemHostUnregister", (address,))]


@pytest.mark.parametrize("refuses", CALLS)
def test_where_the_driver_refuses_the_memory_is_ordinary_and_the_log_says_so(
    refuses: str, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver(refuses)
    with caplog.at_level(logging.WARNING, "mixer.engine"):
        pinned = pinned_buffer(SHAPE, 0, lambda _: driver)
    pinned[:] = 255
    assert pinned.sum() == 255 * pinned.size
    assert caplog.messages == [
        f"pictures are copied to the GPU from ordinary memory, which is slower: {refuses} answers 999; expected 0."
    ]
    assert driver.calls[-1][0] == refuses


def test_without_a_driver_the_memory_is_ordinary(caplog: pytest.LogCaptureFixture) -> None:
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    with caplog.at_level(logging.WARNING, "mixer.engine"):
        assert pinned_buffer(SHAPE, 0, load).shape == SHAPE
    assert caplog.messages[0].endswith("libcuda.so.1: cannot open shared object file")
