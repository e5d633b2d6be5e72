"""What a stream of explanations costs those who classify: p50 and p99 of /classify with and without it, in turns.

    python -m benchmarks.explanations_beside [--bundle BUNDLE] [--rounds N] [--connections C] [--streams E]

One service with its defaults. wrk sends the pictures of examples/ to /classify over C connections; beside it, E threads
ask for one explanation after the other. Prints a line a round, the medians of the differences, and what an explanation
and one of its runs took.
"""

import argparse
import itertools
import re
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from statistics import median

import httpx

from benchmarks.in_turns import measured, write_plan
from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans
from benchmarks.serving.server import Probe, serving

ROOT = Path(__file__).resolve().parents[1]


class Stream:
    """Explanations one after the other, until the end of the with statement. `stages`: of each, in milliseconds."""

    def __init__(self, port: int, pictures: list[bytes], threads: int) -> None:
        self.stages: list[dict[str, float]] = []
        self.refused = 0
        self.runs = 0
        self._url, self._pictures = f"http://127.0.0.1:{port}/explain", pictures
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]

    def __enter__(self) -> "Stream":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=60) as http:
            for picture in itertools.cycle(self._pictures):
                if self._over.is_set():
                    return
                answer = http.post(self._url, content=picture)
                if answer.status_code == 200:
                    self.runs = answer.json()["runs"]
                    told = re.findall(r"(\w+);dur=([\d.]+)", answer.headers["server-timing"])
                    self.stages.append({stage: float(spent_ms) for stage, spent_ms in told})
                else:
                    self.refused += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--streams", type=int, default=2)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing; expected Debian's package wrk.", file=sys.stderr)
        return 2
    adopt_orphans()
    pictures = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.jpg"))]
    configuration = Configuration(
        "this service", "this service", ("mixer", "serve"),
        {"MIXER_BUNDLE": str(asked.bundle), "MIXER_PORT": "{port}", "MIXER_LOG_LEVEL": "warning"},
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bench-explanations-") as made:
        folder = Path(made)
        write_plan(folder, pictures)
        probe = Probe("/classify", "image/jpeg", pictures[0])
        with serving(configuration, ROOT / ".venv" / "bin", probe, folder / "log") as server:
            _in_turns(asked, pictures, server.port, folder)
    return 0


def _in_turns(asked: argparse.Namespace, pictures: list[bytes], port: int, folder: Path) -> None:
    measured(port, asked.connections, 2, folder)  # warms up
    rises, stages, refused, runs = [], [], 0, 0
    print("| round | alone: a second, p50, p99 ms | beside explanations | explanations |\n|---|---|---|---|")
    for number in range(1, asked.rounds + 1):
        alone = measured(port, asked.connections, asked.seconds, folder)
        with Stream(port, pictures, asked.streams) as stream:
            beside = measured(port, asked.connections, asked.seconds, folder)
        rises.append((beside["p50_ms"] - alone["p50_ms"], beside["p99_ms"] - alone["p99_ms"]))
        stages += stream.stages
        refused, runs = refused + stream.refused, stream.runs
        print(f"| {number} | {_words(alone)} | {_words(beside)} | {len(stream.stages)} |", flush=True)
    p50, p99 = (median(one) for one in zip(*rises, strict=True))
    print(f"\np50 rises by {p50:.1f} ms, p99 by {p99:.1f} ms (medians); {refused} explanations were refused")
    if stages:
        each = {stage: median(one[stage] for one in stages) for stage in stages[0]}
        told = ", ".join(f"{stage} {spent_ms:.1f}" for stage, spent_ms in each.items())
        print(f"an explanation of {runs} rows, medians in ms: {told}")


def _words(told: dict[str, float]) -> str:
    return f"{told['answers'] / told['seconds']:.0f}, {told['p50_ms']:.1f}, {told['p99_ms']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
