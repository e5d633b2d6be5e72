"""One server's turn: started, ready, warm, weighed, stopped. Knows nothing of what is measured meanwhile."""

import http.client
import math
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.configurations import Configuration
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import descendants, end_all, memory_bytes, processor_s, wants_processor

START_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 10
_POLL_S = 0.02
_LOOK_S = 0.25
_AT_REST = 0.1  # of a CPU
_LONGEST_REST_S = 30.0
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")  # of this process's environment


class StartFailed(Exception):
    """A server did not answer; the message says why, in one line."""


@dataclass(frozen=True)
class Probe:
    """The request that a server has to answer with 200 before it counts as started."""

    path: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Server:
    """A server that answers. `startup_s`: from its command to its first 200."""

    port: int
    startup_s: float
    spared: frozenset[int]

    def memory_bytes(self) -> int:
        """Of all its processes together."""
        return memory_bytes(self._processes())

    def await_rest(self) -> None:
        """Until it no longer works for clients that have gone: it would be counted against those that come next."""
        until = time.perf_counter() + _LONGEST_REST_S
        used_s = math.inf
        while time.perf_counter() < until and (
            used_s > _AT_REST * _LOOK_S or any(map(wants_processor, self._processes()))
        ):
            before = sum(map(processor_s, self._processes()))
            time.sleep(_LOOK_S)
            used_s = sum(map(processor_s, self._processes())) - before

    def _processes(self) -> list[int]:
        return [process for process in descendants(os.getpid()) if process not in self.spared]


@contextmanager
def serving(
    configuration: Configuration, programs: Path, probe: Probe, log: Path, timeout_s: float = START_TIMEOUT_S
) -> Iterator[Server]:
    """A running server; every process of its is gone afterwards. Raises StartFailed."""
    spared = frozenset(descendants(os.getpid()))
    with ExitStack() as stack:
        folder = stack.enter_context(_scratch())
        stack.callback(end_all, spared)
        ports = free_ports(3)
        places = {"port": ports[0], "port_2": ports[1], "port_3": ports[2], "folder": folder}
        command = [str(programs / configuration.command[0]), *_filled(configuration.command[1:], places)]
        variables = dict(zip(configuration.variables, _filled(configuration.variables.values(), places), strict=True))
        output = stack.enter_context(log.open("wb"))
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(programs, Path(folder), {**variables, "PEER_PORT": str(ports[0])}),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        stack.callback(_stop, process)
        _wait_until_ready(process, ports[0], probe, started + timeout_s, log)
        yield Server(ports[0], time.perf_counter() - started, spared)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """An empty folder with a short name: socket paths must be short. What still writes there is on its way out."""
    return tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp", ignore_cleanup_errors=True)


def _filled(texts: Iterable[str], places: Mapping[str, object]) -> list[str]:
    return [text.format(**places) for text in texts]


def _environment(programs: Path, folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Of this process's environment only what does no harm; a framework's home and scratch are `folder`."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "PATH": f"{programs}{os.pathsep}{kept.get('PATH', '')}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        **variables,
    }


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, probe: Probe, until: float, log: Path) -> None:
    answer = "it does not listen"
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise StartFailed(f"it ended with {process.returncode}: {_last_line(log)}")
        with suppress(OSError, http.client.HTTPException):
            status, text = _post(port, probe, max(_POLL_S, until - time.perf_counter()))
            if status == 200:
                return
            answer = f"it answers {status}: {text[:200]!r}"
        time.sleep(_POLL_S)
    raise StartFailed(f"{answer}; the last it said: {_last_line(log)}")


def _post(port: int, probe: Probe, timeout_s: float) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", probe.path, probe.body, {"Content-Type": probe.content_type})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and wait a little; what is left after that is ended with everything else."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_TIMEOUT_S)
    if process.poll() is None:
        process.kill()
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing"
