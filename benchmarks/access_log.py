"""What the access log costs: services with and without it, in turns, and what one line takes.

    python -m benchmarks.access_log [--before FOLDER] [--format text|json] [--connections N] [--rounds N] [--seconds S]

Services over bundles/fashion-mnist, for whose 28x28 network HTTP is most of the work, with a worker for each CPU: one
that logs warnings only, and for each checkout one whose lines go to a file and one whose lines go to a pipe that
somebody reads. wrk asks one after the other. Prints a line a round, and the medians of the ratios to the first: of
answers a second, p50, and processor time for an answer, which other work on the machine changes least.

    python -m benchmarks.access_log --lines

Prints what one line takes of a processor, without a request around it, into a pipe that somebody reads.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import in_turns
from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans, descendants, processor_s
from benchmarks.serving.server import Probe, serving

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "examples" / "fashion-mnist" / "ankle-boot.png"
OFF, NOW, BEFORE = "no access log", "now", "before"
_SINKS = {"file": "", "pipe": " 2> >(exec cat > /dev/null)"}
_LINES, _TURNS, _A_CALL = 2000, 20, 10


class Found(NamedTuple):
    """Of one service in one turn."""

    answers_per_s: float
    p50_ms: float
    cpu_us: float  # of its processes, for an answer


def measured(port: int, connections: int, seconds: float, folder: Path) -> Found:
    """One turn of one service."""
    processes = [one for one in descendants(os.getpid()) if str(port).encode() in _command_line(one)]
    before_s = sum(map(processor_s, processes))
    told = in_turns.measured(port, connections, seconds, folder)
    used_s = sum(map(processor_s, processes)) - before_s
    return Found(told["answers"] / told["seconds"], told["p50_ms"], used_s / told["answers"] * 1e6)


def _command_line(process: int) -> list[bytes]:
    return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")


def services(checkouts: dict[str, Path], log_format: str) -> list[Configuration]:
    """The one without access log first."""
    common = {"MIXER_BUNDLE": str(ROOT / "bundles" / "fashion-mnist"), "MIXER_LOG_FORMAT": log_format}
    start = f"exec {sys.executable} -P -m cli serve --port {{port}}"
    quiet = {**common, "PYTHONPATH": str(ROOT), "MIXER_LOG_LEVEL": "warning"}
    return [
        Configuration(OFF, OFF, ("/bin/bash", "-c", start), quiet),
        *(
            Configuration(f"{name}, {sink}", name, ("/bin/bash", "-c", start + to), {**common, "PYTHONPATH": str(path)})
            for name, path in checkouts.items()
            for sink, to in _SINKS.items()
        ),
    ]


def one_line() -> None:
    """Print processor microseconds of a line, as text and as JSON; in a loop that is idle and in one with ten lines."""
    from app.http import request_log  # noqa: PLC0415 -- of the checkout that PYTHONPATH says
    from app.telemetry import logs  # noqa: PLC0415

    class Route:
        path = "/classify"

    scope = {"method": "POST", "path": "/classify", "client": ("127.0.0.1", 4), "route": Route}
    timing = request_log.Timing()
    timing.batch_size = 3

    def line() -> None:
        now, ident = time.perf_counter(), "0af7651916cd43dd8448eb211c80319c"
        request_log._write(request_log._fields(scope, "/classify", timing, ident, 200, now))

    async def loop(at_once: int) -> float:
        best_s = float("inf")
        for _ in range(_TURNS):
            began = time.process_time()
            for _ in range(_LINES // at_once):
                for _ in range(at_once):
                    line()
                await asyncio.sleep(0)
            best_s = min(best_s, time.process_time() - began)
        return best_s / _LINES * 1e6

    for log_format in ("text", "json"):
        logs.configure(log_format, "info")
        logs.name_worker(1, 2)
        for at_once in (1, _A_CALL):
            took_us = asyncio.run(loop(at_once))
            print(f"{log_format}, {at_once} a turn of the event loop: {took_us:.1f} us", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an older checkout, whose service takes part, too")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--lines", action="store_true")
    asked = parser.parse_args()
    if asked.lines:
        one_line()
        return 0
    if shutil.which("wrk") is None:
        print("wrk is missing; expected Debian's package wrk.", file=sys.stderr)
        return 2
    adopt_orphans()
    checkouts = {NOW: ROOT} | ({BEFORE: asked.before.resolve()} if asked.before else {})
    with tempfile.TemporaryDirectory(prefix="bench-access-log-") as made, ExitStack() as stack:
        folder = Path(made)
        in_turns.write_plan(folder, [PICTURE.read_bytes()])
        probe = Probe("/classify", "image/png", PICTURE.read_bytes())
        ports = {}
        for number, one in enumerate(services(checkouts, asked.format)):
            entered = serving(one, Path(sys.executable).parent, probe, folder / f"log-{number}")
            ports[one.name] = stack.enter_context(entered).port
        _compare(ports, asked.connections, asked.rounds, asked.seconds, folder)
    return 0


def _compare(ports: dict[str, int], connections: int, rounds: int, seconds: float, folder: Path) -> None:
    for port in ports.values():
        in_turns.measured(port, connections, 1, folder)  # warms up
    ratios: dict[str, list[Found]] = {name: [] for name in ports}
    print(f"{connections} connections\n| round | {' | '.join(ports)} |\n|---|{'---|' * len(ports)}")
    for number in range(1, rounds + 1):
        names = list(ports) if number % 2 else list(reversed(ports))  # whoever is first is not always the same
        found = {name: measured(ports[name], connections, seconds, folder) for name in names}
        for name, one in found.items():
            ratios[name].append(Found(*(own / base for own, base in zip(one, found[OFF], strict=True))))
        words = (
            f"{one.answers_per_s:.0f}/s, {one.p50_ms:.2f} ms, {one.cpu_us:.0f} us"
            for one in map(found.get, ports)
            if one
        )
        print(f"| {number} | {' | '.join(words)} |", flush=True)
    print("\n| of no access log | answers/s | least and most | p50 | processor time |\n|---|---|---|---|---|")
    for name, each in ratios.items():
        rates, p50s, cpus = zip(*each, strict=True)
        ends = f"{min(rates):.3f} to {max(rates):.3f}"
        print(f"| {name} | {median(rates):.3f} | {ends} | {median(p50s):.3f} | {median(cpus):.3f} |")


if __name__ == "__main__":
    sys.exit(main())
