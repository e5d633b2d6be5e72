"""For every test: ONNX Runtime reports nothing, whoever imports it first, and a slow machine has more time.

Where tests run beside each other, torch has one thread in each process: more of them would wait busily for each other.
"""

import gc
import os
import signal
from collections.abc import Iterator

import pytest

from tests.pace import slowness_at_first

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stretch the timeout of each test by how much slower this machine is than the one they were set on."""
    if config.getoption("timeout") is not None:  # whoever calls knows better
        return
    for item in items:
        mark = item.get_closest_marker("timeout")
        limit_s = float(mark.args[0] if mark is not None else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(limit_s * slowness_at_first()), append=False)


def pytest_collection_finish() -> None:
    """Whatever the modules hold stays: no collection of garbage need look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def stop_signals_as_they_were() -> Iterator[None]:
    """A process that a later test starts would ignore SIGTERM, too, or hold it back, and never end."""
    before = _stop_signals()
    yield
    assert _stop_signals() == before


def _stop_signals() -> tuple[bool, bool]:
    """Whether SIGTERM is ignored, and whether it is blocked."""
    ignored = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    return ignored, signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
