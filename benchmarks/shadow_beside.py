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

import httpx

from benchmarks.in_turns import compare, write_plan
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


def rest(port: int) -> None:
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
        compare(asked, pictures, ports, folder, outcomes, rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
