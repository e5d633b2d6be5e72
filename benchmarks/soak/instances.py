"""Service processes that come and go behind one address, as behind a load balancer. Knows nothing of requests."""

import asyncio
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import descendants
from benchmarks.serving.server import free_ports
from benchmarks.soak.usage import Usage, usage

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 60.0
_PAUSE_S = 0.02
_LAST_WORDS_S = 0.5  # of a killed worker, in buffers between it and its clients


class InstanceFailedError(Exception):
    """A service did not start, or not end; the message says why."""


@dataclass
class Instance:
    """One `mixer serve`. Times of time.monotonic: when it was told to stop, when its workers were killed."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    log: Path
    stopped_at: float | None = None
    kills: list[float] = field(default_factory=list)
    unanswered: list[bytes] = field(default_factory=list)  # ids of requests that broke off when it stopped

    def processes(self) -> list[int]:
        """All of them, the one that was started first."""
        return [self.process.pid, *descendants(self.process.pid)]

    def workers(self) -> list[int]:
        """Processes that serve, where there are several: not the one that watches over them, nor Python's tracker."""
        return [one for one in descendants(self.process.pid) if b"resource_tracker" not in _command(one)]

    def usage(self) -> Usage:
        """Of all its processes."""
        return usage(self.processes())

    def kill(self, worker: int) -> None:
        """kill -9 of one worker."""
        self.kills.append(time.monotonic())
        os.kill(worker, signal.SIGKILL)

    def was_killed_since(self, then: float) -> bool:
        """Whether a worker was killed since a time; the connection that worked then may have been one of its.

        What it had answered is read a moment after its death.
        """
        return any(at + _LAST_WORDS_S >= then for at in self.kills)

    def accepted(self) -> list[bytes]:
        """Of the ids that broke off, those that the service had begun to serve: they stand in its log."""
        said = self.log.read_bytes() if self.unanswered else b""
        return [one for one in self.unanswered if one in said]

    def said_since(self, length: int) -> bytes:
        """What its log has beyond so many bytes."""
        with self.log.open("rb") as log:
            log.seek(length)
            return log.read()


class Address(Protocol):
    """What clients connect to; `current` is where new connections go."""

    current: Instance


class Instances:
    """Starts and ends them; `current` is where new connections go."""

    def __init__(self, flags: Sequence[str], variables: Mapping[str, str], logs: Path) -> None:
        self._flags, self._variables, self._logs = flags, variables, logs
        self._count = 0
        self.current: Instance

    async def start(self, port: int | None = None) -> Instance:
        """Another one, ready, on a port of its own unless it is told one. Raises InstanceFailedError."""
        self._count += 1
        port = port or free_ports(1)[0]
        name = f"instance {self._count}"
        log = self._logs / f"soak-{self._count}.txt"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MIXER_")}
        command = [sys.executable, "-m", "cli", "serve", "--port", str(port), *self._flags]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 -- starts at once
                command, cwd=ROOT, env={**inherited, **self._variables}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        started = Instance(name, port, process, log)
        await _until_ready(started)
        return started

    async def replace(self) -> Instance:
        """Start a new one, send everyone there, and end the old one, which finishes what it accepted.

        Returns: the old one. Raises InstanceFailedError.
        """
        old, self.current = self.current, await self.start()
        await self.stop(old)
        return old

    async def stop(self, instance: Instance) -> None:
        """SIGTERM, and its end. Raises InstanceFailedError where it does not end, or not with 0."""
        instance.stopped_at = time.monotonic()
        instance.process.terminate()
        until = instance.stopped_at + _STOP_TIMEOUT_S
        while instance.process.poll() is None:
            if time.monotonic() > until:
                raise InstanceFailedError(f"{instance.name} had not ended {_STOP_TIMEOUT_S:g} s after SIGTERM.")
            await asyncio.sleep(_PAUSE_S)
        if instance.process.returncode:
            raise InstanceFailedError(f"{instance.name} ended with {instance.process.returncode}: {_last(instance)}")


async def _until_ready(instance: Instance) -> None:
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until:
        if instance.process.poll() is not None:
            raise InstanceFailedError(f"{instance.name} ended with {instance.process.returncode}: {_last(instance)}")
        if await asyncio.to_thread(_is_ready, instance.port):
            return
        await asyncio.sleep(_PAUSE_S)
    raise InstanceFailedError(f"{instance.name} was not ready after {_START_TIMEOUT_S:g} s: {_last(instance)}")


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health/ready", headers={"Connection": "close"})
        return connection.getresponse().status == 200
    return False


def _command(process: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def _last(instance: Instance) -> str:
    lines = [line for line in instance.log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
