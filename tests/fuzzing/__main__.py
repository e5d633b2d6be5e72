"""What scripts/fuzz runs: python -m tests.fuzzing [TARGET] [--runs N | --seconds S] [--reproduce FILE]."""

import argparse
import math
import sys
import time
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fuzzing.campaign import ROOT, Campaign, Report
from tests.fuzzing.targets import OUTCOMES, Cost, target_named
from tests.fuzzing.worker import reproduce

FOLDER = ROOT / ".fuzzing"
RUNS = {"decode": 100_000, "structures": 100_000, "multipart": 50_000, "dialects": 50_000, "http": 2_000}


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["load"]:
        return int(import_module("tests.fuzzing.load").main(arguments[1:]))
    options = _options(arguments)
    if options.reproduce:
        if options.what == ["http"]:
            return _http().reproduce(options.reproduce)
        return reproduce(options.what[0], options.reproduce)
    findings = 0
    for name in options.what or list(RUNS):
        runs = options.runs or (RUNS[name] if options.seconds is None else sys.maxsize)
        seconds = options.seconds or math.inf
        findings += _fuzz_http(runs, seconds, options) if name == "http" else _fuzz(name, runs, seconds, options)
    return 1 if findings else 0


def _fuzz(name: str, runs: int, seconds: float, options: argparse.Namespace) -> int:
    campaign = Campaign(
        name, target_named(name), options.folder / name, options.seed, say, guided=find_spec("atheris") is not None
    )
    report = campaign.run(runs, seconds)
    say(table(report))
    return len(report.findings)


def _fuzz_http(runs: int, seconds: float, options: argparse.Namespace) -> int:
    return int(_http().fuzz(runs, seconds, options.folder / "http", options.seed, say))


def _http() -> Any:
    from tests.fuzzing import http  # noqa: PLC0415 -- what it imports is of no use to the others

    return http


def table(report: Report) -> str:
    """How many inputs of which kind came to what, and the most that one took, as Markdown."""
    kinds = sorted({kind for kind, _ in report.tally})
    seen = [outcome for outcome in OUTCOMES if any(report.tally[kind, outcome] for kind in kinds)]
    lines = ["| | " + " | ".join(seen) + " | in all | most time | most memory |", "|---" * (len(seen) + 4) + "|"]
    sums: Counter[str] = Counter()
    worst = Cost()
    for kind in kinds:
        row = [report.tally[kind, outcome] for outcome in seen]
        sums.update(dict(zip(seen, row, strict=True)))
        lines.append(f"| {kind} | " + " | ".join(map(str, row)) + f" | {sum(row)} | {_told(report.worst[kind])} |")
        worst = worst.or_more(report.worst[kind])
    row = [sums[outcome] for outcome in seen]
    lines.append("| **all** | " + " | ".join(map(str, row)) + f" | {sums.total()} | {_told(worst)} |")
    lines.append(
        f"\n{report.begun} inputs in {report.seconds:.0f} s, {len(report.findings)} findings",
    )
    if report.unconfirmed:
        lines[-1] += f", {report.unconfirmed} suspicions that an ordinary process did not confirm"
    return "\n".join(lines)


def _told(cost: Cost) -> str:
    return f"{cost.cpu_s:.2f} s | {cost.peak_bytes / 1e6:.0f} MB"


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description="Bytes that nobody meant. Exit code 1: a finding. `scripts/fuzz load --help` says what load does.",
    )
    parser.add_argument("what", nargs="*", choices=RUNS, help="default: all five")
    parser.add_argument("--runs", type=int, help=f"inputs or requests of each; default {RUNS}")
    parser.add_argument("--seconds", type=float, help="how long each goes on, in place of --runs")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="default: the clock")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="keeps corpus and findings; default .fuzzing")
    parser.add_argument("--reproduce", type=Path, help="check one file that was found, in an ordinary process")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
