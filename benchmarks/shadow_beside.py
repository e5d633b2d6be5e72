"""What a shadow costs those who classify: rate, p50 and p99 of /classify with it and without, in turns.

    python -m benchmarks.shadow_beside [--bundle BUNDLE] [--shadow BUNDLE] [--rounds N] [--connections C]

Four services with their defaults: two without a shadow (what tells them apart is noise), one with a share of 0.1, one
with a share of 1. wrk sends the pictures of examples/ to one after the other, and every service has to give the answers
of the first. Prints a line a round, the medians of the ratios to the first, and what became of the shadow's pictures.
"""

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx

from benchmarks.collection_beside import answers
from benchmarks.explanations_beside import measured, write_plan
from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans
from benchmarks.serving.server import Probe, serving

ROOT = Path(__file__).resolve().parents[1]
OFF = "no shadow"
_REST_S = 0.3
SHARES: Mapping[str, float | None] = {OFF: None, "no shadow, too": None, "share 0.1": 0.1, "share 1": 1.0}


def outcomes(port: int) -> dict[str, int]:
    """What became of the pictures that the shadow was to run."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = re.findall(r'^mixer_shadow_images_total\{.*outcome="(\w+)".*\} (\S+)$', text, re.MULTILINE)
    return {outcome: round(float(count)) for outcome, count in found}


def _rest(port: int) -> None:
    """Until the shadow has run what waited for it, which is no business of the next service."""
    before = None
    while before != (before := outcomes(port)):
        time.sleep(_REST_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--shadow", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=4)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing; expected Debian's package wrk.", file=sys.stderr)
        return 2
    adopt_orphans()
    pictures = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.jpg"))]
    with tempfile.TemporaryDirectory(prefix="bench-shadow-") as made, ExitStack() as stack:
        folder = Path(made)
        write_plan(folder, pictures)
        probe = Probe("/classify", "image/jpeg", pictures[0])
        ports: dict[str, int] = {}
        for number, (name, share) in enumerate(SHARES.items()):
            variables = {"MIXER_BUNDLE": str(asked.bundle), "MIXER_PORT": "{port}", "MIXER_LOG_LEVEL": "error"}
            variables["MIXER_PRECISION"] = "int8"
            if share is not None:
                variables |= {"MIXER_SHADOW": str(asked.shadow), "MIXER_SHADOW_SHARE": str(share)}
            configuration = Configuration(name, "this service", ("mixer", "serve"), variables)
            entered = serving(configuration, ROOT / ".venv" / "bin", probe, folder / f"log-{number}")
            ports[name] = stack.enter_context(entered).port
        _in_turns(asked, pictures, ports, folder)
    return 0


def _in_turns(asked: argparse.Namespace, pictures: list[bytes], ports: Mapping[str, int], folder: Path) -> None:
    for port in ports.values():
        measured(port, asked.connections, 2, folder)  # warms up
    expected = answers(ports[OFF], pictures)
    ratios: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ports}
    print(f"| round | {' | '.join(ports)} |\n|---|{'---|' * len(ports)}")
    for number in range(1, asked.rounds + 1):
        names = list(ports) if number % 2 else list(reversed(ports))  # whoever is first is not always the same
        found = {}
        for name in names:
            found[name] = measured(ports[name], asked.connections, asked.seconds, folder)
            _rest(ports[name])
        alone = found[OFF]
        for name, told in found.items():
            faster = told["answers"] / told["seconds"] / (alone["answers"] / alone["seconds"])
            ratios[name].append((faster, told["p50_ms"] / alone["p50_ms"], told["p99_ms"] / alone["p99_ms"]))
            said = answers(ports[name], pictures)
            assert said == expected, (name, said, expected)
        print(f"| {number} | {' | '.join(_words(found[name]) for name in ports)} |", flush=True)
    print("\n| | images/s | p50 | p99 | lowest and highest p99 | pictures |\n|---|---|---|---|---|---|")
    for name, each in ratios.items():
        rate, p50, p99 = (median(one) for one in zip(*each, strict=True))
        ends = f"{min(one[2] for one in each):.2f} to {max(one[2] for one in each):.2f}"
        print(f"| {name} | {rate:.2f} | {p50:.2f} | {p99:.2f} | {ends} | {outcomes(ports[name]) or '-'} |")


def _words(told: dict[str, float]) -> str:
    return f"{told['answers'] / told['seconds']:.0f}, {told['p50_ms']:.1f}, {told['p99_ms']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
