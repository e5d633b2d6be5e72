"""What the access log costs a service that is loaded: its lines switched on and off five times a second.

    python -m benchmarks.access_log_switched [--to file|pipe] [--format text|json] [--connections N] [--seconds S]

Serves bundles/fashion-mnist in this process with one worker, and asks it from another process over so many
connections. Whatever else the machine does, lines are on in one fifth of a second and off in the next, so that a
hundred pairs tell a hundredth apart where two services cannot be told from chance. Prints processor microseconds for an
answer and the median latency, without lines and with. With PYTHONPATH and -P, of another checkout.
"""

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

_WINDOW_S, _WARM_UP_S = 0.2, 3.0
_BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "fashion-mnist"
_PICTURE = Path(__file__).resolve().parents[1] / "examples" / "fashion-mnist" / "ankle-boot.png"
_CLIENT = """
import socket, sys, threading, time
port, connections, until = int(sys.argv[1]), int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
picture = open(sys.argv[4], "rb").read()
head = b"POST /classify HTTP/1.1\\r\\nHost: a\\r\\nContent-Type: image/png\\r\\nContent-Length: %d\\r\\n\\r\\n"
request = head % len(picture) + picture
found = []

def ask():
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while (sent := time.monotonic()) < until:
            connection.sendall(request)
            answer = connection.recv(65536)
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            found.append((sent, time.monotonic() - sent))
            if b"connection: close" in answer.lower():
                raise ValueError(answer)

threads = [threading.Thread(target=ask) for _ in range(connections)]
for each in threads: each.start()
for each in threads: each.join()
for sent, took in found: print(sent, took)
"""


class Switch(threading.Thread):
    """Switches the lines, and notes when, with processor time and answers up to then."""

    def __init__(self, port: int, asked: argparse.Namespace, counted: list[int]) -> None:
        super().__init__()
        self._port, self._asked, self._counted = port, asked, counted
        self.marks: list[tuple[float, float, int]] = []
        self.latencies = np.empty((0, 2))

    def run(self) -> None:
        """Load the service, then end it."""
        try:
            self._wait()
            seconds = self._asked.seconds + _WARM_UP_S
            arguments = [str(self._port), str(self._asked.connections), str(seconds), str(_PICTURE)]
            client = subprocess.Popen([sys.executable, "-c", _CLIENT, *arguments], stdout=subprocess.PIPE, text=True)
            time.sleep(_WARM_UP_S)
            until, is_on, log = time.monotonic() + self._asked.seconds - 1, False, logging.getLogger("mixer.access")
            while time.monotonic() < until:
                log.setLevel(logging.INFO if is_on else logging.WARNING)
                self.marks.append((time.monotonic(), time.process_time(), self._counted[0]))
                time.sleep(_WINDOW_S)
                is_on = not is_on
            told, _ = client.communicate()
            self.latencies = np.array([line.split() for line in told.splitlines()], float)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def _wait(self) -> None:
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", self._port)):
                time.sleep(0.1)


def told(switch: Switch) -> str:
    """The medians of windows without lines, of those with, and of their differences and ratios pair by pair."""
    spent_us, p50_ms = [], []
    for (start, cpu, count), (end, cpu_after, count_after) in zip(switch.marks, switch.marks[1:], strict=False):
        inside = (switch.latencies[:, 0] >= start) & (switch.latencies[:, 0] < end)
        spent_us.append((cpu_after - cpu) / max(1, count_after - count) * 1e6)
        p50_ms.append(float(np.median(switch.latencies[inside, 1])) * 1000 if inside.any() else float("nan"))
    lines = []
    for name, values in (("processor us an answer", spent_us), ("p50, ms", p50_ms)):
        off, on = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2).T
        ratios = on / off
        error = 1.25 * np.nanstd(ratios) / len(ratios) ** 0.5  # of a median
        each = f"{np.nanmedian(off):.3f} without, {np.nanmedian(on):.3f} with"
        lines.append(f"{name}: {each}; median of {len(ratios)} ratios {np.nanmedian(ratios):.3f} ± {error:.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", choices=("file", "pipe"), default="pipe")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if asked.to == "pipe":
        sink = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL).stdin
    else:
        sink = tempfile.TemporaryFile()  # noqa: SIM115 -- until this process ends
    os.dup2(sink.fileno(), 2)
    from app.telemetry.metrics import Metrics  # noqa: PLC0415 -- of the checkout that PYTHONPATH says
    from cli.main import main as serve  # noqa: PLC0415

    answered, counted = Metrics.answered, [0]

    def count(*given: Any, **more: Any) -> None:
        counted[0] += 1
        answered(*given, **more)

    Metrics.answered = count
    switch = Switch(port, asked, counted)
    switch.start()
    sys.argv = [
        "mixer",
        "serve",
        "--port",
        str(port),
        "--bundle",
        str(_BUNDLE),
        "--workers",
        "1",
        "--log-format",
        asked.format,
    ]
    try:
        serve()
    except SystemExit:
        switch.join()
    print(f"{asked.connections} connections, {asked.format}, {asked.to}: {told(switch)}")


if __name__ == "__main__":
    main()
