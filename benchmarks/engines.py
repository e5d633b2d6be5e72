"""Processor time and rate of `mixer classify`, Ray Data, Daft and Spark on the same photographs, in turn.

Pictures: crops of those of scikit-image and scikit-learn, 500x375, JPEG, as ImageNet's are on average. Each engine runs
with FEW and with MANY of them; what one picture costs is the difference, so that no start counts. Processor time is
that of all processes of an engine, from a control group of its own; it needs root. Prints Markdown.

`python benchmarks/engines.py BUNDLE --photographs FOLDER...`, in .venv, after scripts/install-engines; they are those
in the packages scikit-image (data) and scikit-learn (datasets/images). Rows are compared, too.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ROOT / ".venv-engines" / "bin" / "python"
GROUP = Path("/sys/fs/cgroup/cpuacct/mixer-engines")  # version 1
SIZE, SMALLEST = (500, 375), 300
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled",
    "RAY_worker_register_timeout_seconds": "600", "RAY_agent_register_timeout_ms": "600000",
}  # fmt: skip


class Cost(NamedTuple):
    """Of one run: processor seconds of all its processes, and seconds that passed."""

    processor_s: float
    elapsed_s: float


def photographs(packages: list[Path]) -> list[Image.Image]:
    found = []
    for path in sorted(path for folder in packages for path in folder.rglob("*") if path.suffix in (".jpg", ".png")):
        with Image.open(path) as image:
            if min(image.size) >= SMALLEST:
                found.append(image.convert("RGB"))
    return found


def write(folder: Path, count: int, packages: list[Path]) -> None:
    """Crops of all photographs in turn, each of another part and size, saved as 500x375."""
    originals, generator = photographs(packages), np.random.default_rng(0)
    for at in range(count):
        original = originals[at % len(originals)]
        share = generator.uniform(0.5, 1.0)
        width = int(share * min(original.width, original.height * SIZE[0] / SIZE[1]))
        height = width * SIZE[1] // SIZE[0]
        left, top = (
            int(generator.integers(0, most + 1)) for most in (original.width - width, original.height - height)
        )
        file = io.BytesIO()
        original.crop((left, top, left + width, top + height)).resize(SIZE).save(file, "JPEG", quality=90)
        path = folder / f"{at // 1000:02}" / f"{at:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())


def commands(pictures: Path, output: Path, bundle: Path) -> dict[str, list[str]]:
    deploy = ROOT / "deploy"
    return {
        "mixer classify": [
            str(ROOT / ".venv" / "bin" / "mixer"), "classify", f"{pictures}", "--bundle", f"{bundle}",
            "--output", f"{output}.parquet",
        ],
        "Ray Data": [
            f"{ENGINES}", f"{deploy}/ray/classify.py", f"{pictures}", "--output", f"{output}", "--bundle", f"{bundle}",
            "--shard-size", "100",
        ],
        "Daft": [f"{ENGINES}", f"{deploy}/daft/classify.py", f"{pictures}/**/*.jpg", f"{output}", f"{bundle}"],
        "Spark": [f"{ENGINES}", f"{deploy}/spark/classify.py", f"{pictures}", f"{output}", f"{bundle}"],
    }  # fmt: skip


@contextmanager
def measured() -> Iterator[Path]:
    GROUP.mkdir()
    try:
        yield GROUP
    finally:
        while (GROUP / "tasks").read_text():
            time.sleep(0.1)  # daemons of an engine end after it
        GROUP.rmdir()


def run(command: list[str]) -> Cost:
    with measured() as group:
        began = time.monotonic()
        joined = f'echo $$ > {group}/tasks; exec "$@"'
        ended = subprocess.run(
            ["/bin/sh", "-c", joined, "sh", *command],
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            check=False,
        )
        elapsed_s = time.monotonic() - began
        assert ended.returncode == 0, ended.stderr[-2000:]
        return Cost(int((group / "cpuacct.usage").read_text()) / 1e9, elapsed_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photographs", type=Path, nargs="+", required=True, help="Folders with pictures to crop.")
    arguments = parser.parse_args()
    found: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in (arguments.few, arguments.many):
            write(folder / str(count), count, arguments.photographs)
        for _ in range(arguments.rounds):
            for engine in commands(folder, folder, arguments.bundle):
                costs = [_once(engine, folder, count, arguments.bundle) for count in (arguments.few, arguments.many)]
                more = arguments.many - arguments.few
                each = Cost(*((many - few) / more for few, many in zip(*costs, strict=True)))
                found.setdefault(engine, []).append(each)
                print(f"{engine}: {each.processor_s * 1000:.2f} ms, start {costs[0]}", file=sys.stderr, flush=True)
    print("| engine | processor ms a picture | images/s per core | against `mixer classify` |\n|---|---|---|---|")
    own = found["mixer classify"]
    for engine, costs in found.items():
        spent = [cost.processor_s * 1000 for cost in costs]
        ratio = median(cost.processor_s / one.processor_s for cost, one in zip(costs, own, strict=True))
        shown = ", ".join(f"{one:.2f}" for one in spent)
        print(f"| {engine} | {shown} | {1000 / median(spent):.0f} | {ratio:.2f} |")


def _once(engine: str, folder: Path, count: int, bundle: Path) -> Cost:
    """One run, whose rows are those of `mixer classify`, which has run first."""
    output, own = folder / "output", folder / f"rows-{count}"
    cost = run(commands(folder / str(count), output, bundle)[engine])
    (written,) = folder.glob("output*")
    if engine == "mixer classify":
        shutil.rmtree(own, ignore_errors=True)
        written.rename(own)
        return cost
    expected = pq.read_table(own).sort_by("path")
    rows = pq.read_table(written).select(expected.schema.names).cast(expected.schema).sort_by("path")
    assert rows == expected, f"{engine} has other rows than mixer classify"
    shutil.rmtree(written)
    return cost


if __name__ == "__main__":
    main()
