"""What another process's threads burn, as the system tells it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.system.stalls import Stall
from tests.app.servers import PATIENCE_S, until

pytestmark = pytest.mark.process

_CHILD = """
import sys, threading, time
def burn():
    while True:
        pass
idle, busy = threading.Thread(target=time.sleep, args=[1000], daemon=True), threading.Thread(target=burn, daemon=True)
idle.start()
busy.start()
print(idle.native_id, busy.native_id, flush=True)
sys.stdin.read()
"""


@contextmanager
def child() -> Iterator[tuple[int, int, int]]:
    """A process, and what the system calls two of its threads: one idle, one busy."""
    process = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        idle, busy = map(int, process.stdout.readline().split())
        yield process.pid, idle, busy
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_the_busiest_thread_counts_from_the_first_look() -> None:
    with child() as (pid, idle, busy):
        stall = Stall()
        until(lambda: burnt_s(pid, busy) > 0.2)  # before anybody looks
        assert stall.spent_s(pid, [idle, busy]) == 0.0
        until(lambda: stall.spent_s(pid, [idle, busy]) > 0.2)
        assert Stall().spent_s(pid, [idle, busy]) == 0.0


def burnt_s(pid: int, native_id: int) -> float:
    """Processor seconds of a thread from its begin."""
    fields = Path(f"/proc/{pid}/task/{native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_thread_has_burnt_nothing() -> None:
    with child() as (pid, idle, busy):
        stall, watched = Stall(), Stall()
        watched.spent_s(pid, [busy])
        stall.spent_s(pid, [idle])
        until(lambda: watched.spent_s(pid, [busy]) > 0.3)
        assert stall.spent_s(pid, [idle]) < 0.1


def test_when_a_standstill_is_over_the_next_one_counts_from_its_own_first_look() -> None:
    with child() as (pid, _, busy):
        stall = Stall()
        stall.spent_s(pid, [busy])
        until(lambda: stall.spent_s(pid, [busy]) > 0.2)
        stall.over()
        assert stall.spent_s(pid, [busy]) == 0.0


def test_threads_that_are_gone_or_none_have_burnt_nothing() -> None:
    with child() as (pid, idle, busy):
        pass
    assert Stall().spent_s(pid, [idle, busy]) == 0.0
    assert Stall().spent_s(os.getpid(), []) == 0.0
