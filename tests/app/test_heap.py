"""Memory that was freed goes back to the system."""

import sys
from pathlib import Path

import pytest

from app import heap

BLOCK = 100_000  # smaller than what has a mapping of its own


def private_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_what_was_freed_below_what_is_still_needed_goes_back() -> None:
    blocks = [bytearray(b"x" * BLOCK) for _ in range(600)]
    full = private_bytes()
    last = blocks.pop()
    blocks.clear()
    heap.trim_soon().join(10)
    assert full - private_bytes() > 300 * BLOCK
    assert len(last) == BLOCK


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.heap.ctypes.CDLL", lambda _: object())
    heap.trim()
