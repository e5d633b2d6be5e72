"""What all workers of a service take of memory, and how long they take to start: graphs mapped, and each with its own.

    python -m benchmarks.worker_memory bundles/clothes --workers 2 8
    python -m benchmarks.worker_memory B/16 --workers 8 --rounds 2

A name such as B/16 is the paper's variant with random weights, made once and kept. Memory is the sum of the
proportional set sizes of all processes after some seconds of requests; the start is from the command to the first
answer. Prints Markdown.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.fleet.subject import subject_of
from benchmarks.overload.loops import Terms, closed_loop
from benchmarks.overload.processor import Processor
from benchmarks.overload.requests import requests_of
from benchmarks.serving.bundles import random_bundle
from benchmarks.serving.configurations import OURS, Configuration
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import adopt_orphans, end_all
from benchmarks.serving.server import serving

ALONE = """
import sys
from app import composition
from app.engine.session import ONNX_RUNTIME
from contextlib import nullcontext
composition.runtime_of = lambda settings: nullcontext(ONNX_RUNTIME)
from cli.main import main
sys.argv = ["mixer", *sys.argv[1:]]
main()
"""
COMMANDS = {"mapped": ("mixer",), "each its own": ("python", "-c", ALONE.replace("{", "{{").replace("}", "}}"))}
CONNECTIONS_EACH, SECONDS = 4, 3.0


def main(flags: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.worker_memory", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("bundle", help="a bundle's folder, or a variant such as B/16")
    parser.add_argument("--workers", type=int, nargs="+", default=[8])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args(flags)
    adopt_orphans()
    path = Path(arguments.bundle)
    bundle = path if path.exists() else random_bundle(arguments.bundle, ROOT / "benchmarks" / "cache")
    print("| workers | graphs | MB, all processes | ready after, s |\n|---|---|---|---|")
    try:
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            for workers in arguments.workers:
                found = [
                    {name: weigh(bundle, arguments.precision, workers, name, Path(folder)) for name in COMMANDS}
                    for _ in range(arguments.rounds)
                ]
                for name in COMMANDS:
                    megabytes, startup_s = (median(one[name][at] for one in found) for at in (0, 1))
                    print(f"| {workers} | {name} | {megabytes:.0f} | {startup_s:.1f} |", flush=True)
    finally:
        end_all()


def weigh(bundle: Path, precision: str, workers: int, name: str, folder: Path) -> tuple[float, float]:
    """MB of all processes, and seconds to the first answer."""
    subject = subject_of(bundle, folder)
    variables = {
        "MIXER_BUNDLE": str(bundle), "MIXER_WORKERS": str(workers), "MIXER_PRECISION": precision,
        "MIXER_LOG_LEVEL": "warning",
    }  # fmt: skip
    service = Configuration(OURS, OURS, (*COMMANDS[name], "serve", "--port", "{port}"), variables)
    with serving(service, Path(sys.executable).parent, subject.workload.probe("raw"), folder / "log") as server:
        terms = Terms(SECONDS, 1.0, 60.0, CONNECTIONS_EACH * workers)
        closed_loop(server.port, requests_of(subject.workload, "raw", 60_000.0), terms, Random(0), Processor(()))
        server.await_rest()
        return server.memory_bytes() / 1e6, server.startup_s


if __name__ == "__main__":
    main()
