"""What traces cost those who classify: processor time and rate with and without, in turns; and what each step takes.

    python -m benchmarks.traces [--rounds N] [--seconds S]

Six services of one worker over bundles/fashion-mnist, for whose 28x28 network HTTP is most of the work: two without an
endpoint for traces (what tells them apart is noise), one whose sampler is always_off, one whose requests come from a
parent that is not sampled, one that samples 1 % and one that samples all. The collector is this process, and takes
whatever comes. wrk asks one after the other over 4 connections. Prints a line a round, and the medians of the ratios to
the first: of processor time for an answer, which other work on the machine changes least, and of answers a second.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans, descendants, processor_s
from benchmarks.serving.server import Probe, serving

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "examples" / "fashion-mnist" / "ankle-boot.png"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
OFF = "no endpoint"
SAMPLERS = {
    OFF: {},
    "no endpoint, too": {},
    "always_off": {"OTEL_TRACES_SAMPLER": "always_off"},
    "parent not sampled": {"OTEL_TRACES_SAMPLER": "parentbased_always_on"},
    "1 % sampled": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
    "all sampled": {"OTEL_TRACES_SAMPLER": "parentbased_always_on"},
}


class Found(NamedTuple):
    """Of one service in one turn."""

    answers_per_s: float
    cpu_us: float  # of its processes, for an answer


@contextmanager
def collecting() -> Iterator[str]:
    """The address of what takes all spans and reads none."""

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def processes_of(port: int) -> list[int]:
    """The processes of the service on this port, which its command line names."""
    return [one for one in descendants(os.getpid()) if str(port).encode() in _command_line(one)]


def _command_line(process: int) -> list[bytes]:
    return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")


def measured(name: str, port: int, seconds: float) -> Found:
    parent = {"parent not sampled": f"{PARENT}0"}.get(name, "")
    processes = processes_of(port)
    before = sum(map(processor_s, processes))
    told = subprocess.run(
        ["wrk", "-t", "1", "-c", "4", "-d", f"{max(1, round(seconds))}", "-s", str(ROOT / "benchmarks" / "traces.lua"),
         f"http://127.0.0.1:{port}"],
        env={**os.environ, "PICTURE": str(PICTURE), "TRACEPARENT": parent}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    answers, failed, duration_us = map(int, told.stdout.splitlines()[-1].split())
    assert not failed, f"{failed} of {answers} answers were no 200."
    used_s = sum(map(processor_s, processes)) - before
    return Found(answers / (duration_us / 1e6), used_s / answers * 1e6)


def steps() -> Iterator[tuple[str, float]]:
    """What each step takes at best, in microseconds, without a request around it."""
    from app.telemetry.otlp import Otlp  # noqa: PLC0415 -- it reads variables

    headers = [(name, b"x" * 20) for name in (b"host", b"accept", b"content-type", b"content-length", b"user-agent")]
    parents = {name: [*headers, (b"traceparent", f"{PARENT}{flag}".encode())] for name, flag in (("off", 0), ("on", 1))}
    os.environ |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "100000000"}
    os.environ |= {"OTEL_BSP_MAX_QUEUE_SIZE": "10000000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "9999999"}
    for sampler, given in (("always_off", headers), ("parentbased_always_on", parents["off"])):
        os.environ["OTEL_TRACES_SAMPLER"] = sampler
        begin = Otlp("0", 0).tracing.begin
        yield f"begins, {sampler}, not sampled", _best_us(lambda begin=begin, given=given: begin(given, 0.0))  # type: ignore[misc]
    tracing = Otlp("0", 0).tracing

    def whole() -> None:
        trace = tracing.begin(parents["on"], 0.0)
        assert trace is not None
        for stage in ("receive", "decode", "queue", "infer", "respond"):
            trace.note(stage, 0.0, 0.001)
        trace.end("POST /classify", {f"mixer.attribute.{number}": number for number in range(16)}, 1.0)

    yield "begins, and hands over six spans", _best_us(whole)


def _best_us(work: Callable[[], object]) -> float:
    number = 50  # so few that some of them meet nothing else on the processor
    return min(timeit.repeat(work, time.thread_time, number=number, repeat=200)) / number * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing; expected Debian's package wrk.", file=sys.stderr)
        return 2
    adopt_orphans()
    probe = Probe("/classify", "image/png", PICTURE.read_bytes())
    with tempfile.TemporaryDirectory(prefix="bench-traces-") as made, ExitStack() as stack:
        url = stack.enter_context(collecting())
        ports: dict[str, int] = {}
        for number, (name, sampler) in enumerate(SAMPLERS.items()):
            variables = {"MIXER_BUNDLE": str(ROOT / "bundles" / "fashion-mnist"), "MIXER_PORT": "{port}"}
            variables |= {"MIXER_WORKERS": "1", "MIXER_LOG_LEVEL": "error", **sampler}
            if sampler:
                variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
            configuration = Configuration(name, "this service", ("mixer", "serve", "--port", "{port}"), variables)
            entered = serving(configuration, ROOT / ".venv" / "bin", probe, Path(made) / f"log-{number}")
            ports[name] = stack.enter_context(entered).port
        _in_turns(ports, asked.rounds, asked.seconds)
    for step, took_us in steps():
        print(f"{step}: {took_us:.1f} us")
    return 0


def _in_turns(ports: dict[str, int], rounds: int, seconds: float) -> None:
    for name, port in ports.items():
        measured(name, port, 2)  # warms up
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in ports}
    print(f"| round | {' | '.join(ports)} |\n|---|{'---|' * len(ports)}")
    for number in range(1, rounds + 1):
        names = list(ports) if number % 2 else list(reversed(ports))  # whoever is first is not always the same
        found = {name: measured(name, ports[name], seconds) for name in names}
        for name, one in found.items():
            alone = found[OFF]
            ratios[name].append((one.cpu_us / alone.cpu_us, one.answers_per_s / alone.answers_per_s))
        each = " | ".join(f"{found[name].cpu_us:.0f} us, {found[name].answers_per_s:.0f}/s" for name in ports)
        print(f"| {number} | {each} |", flush=True)
    print("\n| | processor time for an answer | least and most | answers/s |\n|---|---|---|---|")
    for name, pairs in ratios.items():
        cpu, rate = ([pair[at] for pair in pairs] for at in (0, 1))
        print(f"| {name} | {median(cpu):.3f} | {min(cpu):.3f} to {max(cpu):.3f} | {median(rate):.3f} |")


if __name__ == "__main__":
    sys.exit(main())
