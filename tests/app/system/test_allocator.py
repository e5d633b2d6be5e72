"""Memory that was freed goes back to the system."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from app.system import allocator
from tests.app.virtual_time import in_virtual_time, now

BLOCK = 100_000  # smaller than what has a mapping of its own


def private_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_what_was_freed_below_what_is_still_needed_goes_back() -> None:
    blocks = [bytearray(b"x" * BLOCK) for _ in range(600)]
    full = private_bytes()
    last = blocks.pop()
    blocks.clear()
    allocator.malloc_trim_soon().join(10)
    assert full - private_bytes() > 300 * BLOCK
    assert len(last) == BLOCK


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("app.system.allocator.ctypes.CDLL", lambda name: asked.append(name) or object())
    allocator._c_library.cache_clear()
    allocator.malloc_trim()
    allocator._c_library.cache_clear()
    assert asked == [None]


@in_virtual_time
async def test_it_is_trimmed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[float] = []
    monkeypatch.setattr(allocator, "malloc_trim_soon", lambda: trimmed.append(now()))
    with suppress(TimeoutError):
        await asyncio.wait_for(allocator.keep_trimmed(10.0), 35.0)
    assert trimmed == [10.0, 20.0, 30.0]
