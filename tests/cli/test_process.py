"""A process that starts under odd circumstances: without streams, and as the first one of a container."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli import process
from tests.app.servers import PATIENCE_S, ROOT, clean_environment, connect, free_port, read_until

pytestmark = pytest.mark.process

LIVE = b"GET /health/live HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n"
FIRST = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
WAITING = """
import os, sys, time
from app.server import topology

def wait(settings):
    os.write(1, b"starting\\n")
    while True:  # a signal just before a wait without an end would only be handled after it
        time.sleep(0.05)

topology.planned = wait
sys.argv = ["mixer", "serve"]
from cli.__main__ import main
main()
"""


def may_be_first() -> bool:
    """Whether this machine lets a test have a process 1."""
    found = shutil.which(FIRST[0])
    return found is not None and subprocess.run([*FIRST, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_it_serves_without_the_streams_that_are_closed(closed: str, workers: str, bundle: Path) -> None:
    port = free_port()
    command = f'exec "$@" {closed}'
    flags = ("-m", "cli", "serve", "--port", str(port), "--bundle", str(bundle), "--workers", workers)
    with subprocess.Popen(
        ["sh", "-c", command, "sh", sys.executable, *flags], cwd=ROOT, env=clean_environment()
    ) as running:
        try:
            with connect(port) as connection:
                connection.sendall(LIVE)
                assert read_until(connection, b"}").startswith(b"HTTP/1.1 200 ")
            assert running.poll() is None
            running.send_signal(signal.SIGTERM)
            assert running.wait(PATIENCE_S) == 0
        finally:
            running.kill()


@pytest.mark.skipif(not may_be_first(), reason="needs unshare and the right to use it")
def test_the_first_process_of_a_container_ends_by_sigterm_while_it_starts() -> None:
    # coverage has a handler of its own, which sends the signal once more, to a process 1 without one
    environment = {name: value for name, value in clean_environment().items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(
        [*FIRST, sys.executable, "-c", WAITING], cwd=ROOT, env=environment, stdout=subprocess.PIPE
    ) as outside:
        try:
            assert outside.stdout is not None
            assert outside.stdout.readline() == b"starting\n"
            (first,) = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
            subprocess.run(["kill", "-TERM", first], check=True)
            assert outside.wait(PATIENCE_S) == 128 + signal.SIGTERM
        finally:
            outside.kill()


def test_any_other_process_keeps_the_signals_and_streams_it_has() -> None:
    before = signal.getsignal(signal.SIGTERM), sys.stdin, sys.stdout, sys.stderr
    process.prepare()
    assert (signal.getsignal(signal.SIGTERM), sys.stdin, sys.stdout, sys.stderr) == before
