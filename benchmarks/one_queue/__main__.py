"""One queue in front of engine processes against workers that share a port, in turns, under the same loads.

    python -m benchmarks.one_queue [--bundle BUNDLE | --large] [--rounds N] [--seconds S] [--before FOLDER]

Services without access log: today's with a worker for each CPU; one front end with as many engine processes, each with
one batch at a time, or two. Prints each load's answers a second, p50, p99 and processor time for an answer, and the
medians of their ratios to today's. In an open loop, requests at a multiple of today's rate have a deadline each.
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from app.system.cpu_limits import usable_cpus
from benchmarks.fleet.observed import Bench, Load
from benchmarks.fleet.subject import Subject, subject_of
from benchmarks.serving.bundles import random_bundle
from benchmarks.serving.configurations import OURS, Configuration
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import adopt_orphans, end_all
from benchmarks.serving.server import serving

TODAY, BEFORE = "today", "before"
CLOSED, OPEN = (1, 8, 32, 128), (2.0, 4.0)
_PATIENT_MS = 30_000.0


@dataclass(frozen=True)
class Rival:
    """A service that runs, and what loads it: patient requests, and requests that must be answered soon."""

    patient: Bench
    hasty: Bench


def commands() -> dict[str, tuple[str, ...]]:
    """How to start each."""
    module = (sys.executable, "-m", "benchmarks.one_queue.service", "--port", "{port}")
    one_queue = (*module, "--engines", str(usable_cpus()))
    return {
        TODAY: ("mixer", "serve", "--port", "{port}"),
        "one queue": one_queue,
        "one queue, shared out": (*one_queue, "--share-out"),
        "one queue, two batches": (*one_queue, "--depth", "2"),
        "one queue, two batches, shared out": (*one_queue, "--depth", "2", "--share-out"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--large", action="store_true", help="S/16 with random weights in place of the bundle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--deadline-ms", type=float, default=250.0, help="of requests in an open loop")
    parser.add_argument("--before", type=Path, help="an older checkout, whose service takes part, too")
    parser.add_argument("--only", nargs="*", choices=list(commands()), default=list(commands()), help="beside today's")
    asked = parser.parse_args()
    adopt_orphans()
    bundle = random_bundle("S/16", Path.home() / ".cache" / "mixer-serve" / "bench") if asked.large else asked.bundle
    try:
        with tempfile.TemporaryDirectory(prefix="one-queue-") as made, ExitStack() as stack:
            subject = subject_of(bundle, Path(made))
            rivals = {
                name: _started(stack, command, subject, asked, Path(made) / f"{number}.txt")
                for number, (name, command) in enumerate(commands().items())
                if name == TODAY or name in asked.only
            }
            if asked.before is not None:
                command = (sys.executable, "-P", "-m", "cli", "serve", "--port", "{port}")
                log = Path(made) / "before.txt"
                rivals[BEFORE] = _started(stack, command, subject, asked, log, asked.before.resolve())
            _compare(rivals, asked.rounds, asked.deadline_ms)
    finally:
        end_all()
    return 0


def _started(
    stack: ExitStack,
    command: tuple[str, ...],
    subject: Subject,
    asked: argparse.Namespace,
    log: Path,
    checkout: Path = ROOT,
) -> Rival:
    variables = {"MIXER_BUNDLE": str(subject.bundle), "MIXER_LOG_LEVEL": "warning", "PYTHONPATH": str(checkout)}
    service = Configuration(OURS, OURS, command, variables)
    server = stack.enter_context(serving(service, Path(sys.executable).parent, subject.workload.probe("raw"), log))
    return Rival(*(Bench(server, subject.requests(each), asked.seconds) for each in (_PATIENT_MS, asked.deadline_ms)))


def _compare(rivals: dict[str, Rival], rounds: int, deadline_ms: float) -> None:
    found: dict[tuple[str, str], list[Load]] = {}
    for number in range(rounds):
        names = list(rivals) if number % 2 else list(reversed(rivals))
        for connections in CLOSED:
            for name in names:
                load = rivals[name].patient.closed(connections, number)
                found.setdefault((f"closed, {connections}", name), []).append(load)
        capacity_s = found["closed, 32", TODAY][-1].figures.rate_s
        for times in OPEN:
            for name in names:
                load = rivals[name].hasty.open(times * capacity_s, number, deadline_ms / 1000)
                found.setdefault((f"open, {times:g} times", name), []).append(load)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    print(_table(found, list(rivals)))


def _table(found: dict[tuple[str, str], list[Load]], names: list[str]) -> str:
    columns = ["answers/s", "p50, ms", "p99, ms", "processor ms an answer", "images a run"]
    of_today = ["of today's: answers/s (least to most)", "p50", "p99", "processor time"]
    head = ["load", "service", *columns, *of_today]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for load in dict.fromkeys(load for load, _ in found):
        for name in names:
            own, base = ([_figures(one) for one in found[load, each]] for each in (name, TODAY))
            medians = [median(each) for each in zip(*own, strict=True)]
            ratios = [
                [one[index] / other[index] for one, other in zip(own, base, strict=True)]
                for index in range(len(columns))
            ]
            rates = f"**{median(ratios[0]):.2f}** ({min(ratios[0]):.2f} to {max(ratios[0]):.2f})"
            others = [f"{median(each):.2f}" for each in ratios[1:4]]
            words = [f"{one:.1f}" if one < 100 else f"{one:.0f}" for one in medians]
            lines.append(f"| {' | '.join([load, name, *words, rates, *others])} |")
    return "\n".join(lines)


def _figures(load: Load) -> tuple[float, ...]:
    figures, processor_ms = load.figures, 1000 * load.used.all / max(1, load.answered)
    return figures.rate_s, figures.p50_ms, figures.p99_ms, processor_ms, load.images_a_run


if __name__ == "__main__":
    sys.exit(main())
