"""`mixer classify --output` against the ceiling of `mixer bench`, in turn: `python bulk_rate.py BUNDLE PICTURES`.

The ceiling is decoding and running in bare threads, on 256 of the pictures in memory, at its best split and batch size.
The other figure is the whole way from files to synced Parquet shards, without the start of the processes.
"""

import argparse
import asyncio
import os
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from app import settings
from app.decoding.decoder import DecodeLimits, decode
from app.server.topology import planned
from app.system.cpu_limits import usable_cpus
from cli.bench.ceilings import classifyings
from cli.bench.rig import set_up
from cli.bench.samples import read
from cli.bench.stopwatch import Candidate, rate
from cli.bulk.labeler import Task
from cli.bulk.local_labeler import LocalLabeler
from cli.bulk.manifest import Run
from cli.bulk.output import opened, place_of
from cli.bulk.processes import answering
from cli.bulk.run import ShardSink, Tally, run
from cli.bulk.sources import Sources
from model.preprocess import smallest_useful_side, to_patches


def ceilings(bundle: Path, pictures: Path) -> list[Candidate]:
    limits, cpus = DecodeLimits(20 << 20, 100_000_000), usable_cpus()
    rig = set_up(bundle, provider="cpu", precision="auto", max_batch_size=32, cpus=cpus)
    side = smallest_useful_side(rig.spec)

    def decoded(payload: bytes) -> object:
        return to_patches(decode(payload, rig.spec.channels, side, limits), rig.spec)

    files = read(pictures, decoded).files
    found = [classifyings(one, files, decoded, cpus, (8, 16, rig.batch_size)) for one in rig.at_work(cpus)]
    return [candidate for candidates in found for candidate in candidates]


class Figures(NamedTuple):
    """Pictures a second, and processor time of a picture over all processes."""

    rate: float
    cpu_ms: float


def cpu_s() -> float:
    """Of this process and those that it started."""
    pids = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    stats = [Path(f"/proc/{pid}/stat").read_text() for one in pids for pid in one.read_text().split()]
    ticks = sum(int(tick) for stat in stats for tick in stat.rpartition(")")[2].split()[11:13])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def ceiling(candidate: Candidate, seconds: float) -> Figures:
    count, lock = 0.0, threading.Lock()

    def work() -> float:
        nonlocal count
        done = candidate.work()
        with lock:
            count += done
        return done

    before = cpu_s()
    found = rate(Candidate(candidate.key, work, candidate.threads), seconds, time.perf_counter)
    return Figures(found, (cpu_s() - before) / count * 1000)


def bulk(labeler: LocalLabeler, pictures: Path, count: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        begun = Run("classify", (str(pictures),), labeler.model, {})
        output = opened(place_of(Path(folder) / "o.parquet"), begun, resume=False)
        entries = islice(Sources([str(pictures)], 20 << 20).entries(), count)
        started, before = time.perf_counter(), cpu_s()
        sink, tally = ShardSink(output, 1_000), Tally()
        asyncio.run(run(entries, labeler, sink, tally, max_failure_rate=None, progress=lambda done, failures: None))
        spent_s, cpu = time.perf_counter() - started, cpu_s() - before
        output.close()
        assert tally.failures == 0
        return Figures(tally.count / spent_s, cpu / tally.count * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path, help="A folder of folders.")
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    candidates = ceilings(arguments.bundle, arguments.pictures)
    best = max(candidates, key=lambda candidate: rate(candidate, 1.0, time.perf_counter))
    chosen = planned(settings.load().model_copy(update={"bundle": arguments.bundle}))
    ratios, cpu_ratios = [], []
    with answering(chosen, Task(embeds=False, asked={})) as found:
        labeler = LocalLabeler(found)
        bulk(labeler, arguments.pictures, 300)
        for _ in range(arguments.rounds):
            bare, ours, again = (
                ceiling(best, 3.0), bulk(labeler, arguments.pictures, arguments.count), ceiling(best, 3.0),
            )  # fmt: skip
            ratios.append(2 * ours.rate / (bare.rate + again.rate))
            cpu_ratios.append((bare.cpu_ms + again.cpu_ms) / 2 / ours.cpu_ms)
            print(
                f"ceiling {bare.rate:,.0f} and {again.rate:,.0f}, mixer classify {ours.rate:,.0f} images/s: "
                f"{ratios[-1]:.2f}; processor time {bare.cpu_ms:.2f} and {again.cpu_ms:.2f}, {ours.cpu_ms:.2f} "
                f"ms a picture: {cpu_ratios[-1]:.2f}"
            )
    print(f"{best.key}: median ratio {median(ratios):.2f}, of processor time {median(cpu_ratios):.2f}")


if __name__ == "__main__":
    main()
