"""Whether CPUs idle while a closed loop of clients waits for the same runs, and what overlapping them would bring.

    python -m benchmarks.bubble [--bundle BUNDLE] [--side PIXELS] [--connections 32] [--rounds 6] [--seconds 2]

Services side by side, asked in turns with wrk: as it is; with runs of half the size and of a quarter; with decoding
apart from the runs; with an instance more than CPUs; with two in each worker. Prints the medians of their turns:
images/s as a ratio to the first service of the round, pictures in a run, and the share of the time in which CPUs
idled. wrk is on the same CPUs, so that what it takes is no idling. Two services are as they come: what tells them
apart is noise.
"""

import argparse
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
from PIL import Image

from benchmarks.in_turns import measured, write_plan
from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans
from benchmarks.serving.server import Probe, serving

ROOT = Path(__file__).resolve().parents[1]
SERVICES: Mapping[str, Mapping[str, str]] = {
    "as it is": {},
    "as it is, too": {},
    "runs of half the size": {"MIXER_MAX_BATCH_SIZE": "{half}"},
    "of a quarter": {"MIXER_MAX_BATCH_SIZE": "{quarter}"},
    "decoding apart": {"MIXER_DECODE_THREADS": "2"},
    "an instance more than CPUs": {"MIXER_WORKERS": "1", "MIXER_INSTANCES": "{more}"},
    "two instances a worker": {"MIXER_INSTANCES": "2", "MIXER_INTRA_OP_THREADS": "1"},
}


class Turn(NamedTuple):
    """images_s; p99_ms; pictures: in a run; idle: share of the CPUs' time."""

    images_s: float
    p99_ms: float
    pictures: float
    idle: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--side", type=int, help="send the pictures as PNG of so many pixels; else as they are")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing; expected Debian's package wrk.", file=sys.stderr)
        return 2
    adopt_orphans()
    pictures = [_sized(path.read_bytes(), asked.side) for path in sorted((ROOT / "examples").glob("*.jpg"))]
    with tempfile.TemporaryDirectory(prefix="bench-bubble-") as made, ExitStack() as stack:
        folder = Path(made)
        write_plan(folder, pictures)
        probe = Probe("/classify", "image/jpeg", pictures[0])
        base = {
            "MIXER_BUNDLE": str(asked.bundle), "MIXER_PRECISION": asked.precision, "MIXER_PORT": "{port}",
            "MIXER_LOG_LEVEL": "warning",
        }  # fmt: skip
        ports: dict[str, int] = {}
        for number, (name, changed) in enumerate(SERVICES.items()):
            sizes = _sizes(ports)
            variables = base | {key: value.format(**sizes) for key, value in changed.items()}
            configuration = Configuration(name, "this service", ("mixer", "serve"), variables)
            entered = serving(configuration, ROOT / ".venv" / "bin", probe, folder / f"log-{number}")
            ports[name] = stack.enter_context(entered).port
        _compare(asked, ports, folder)
    return 0


def _sized(file: bytes, side: int | None) -> bytes:
    if side is None:
        return file
    written = io.BytesIO()
    Image.open(io.BytesIO(file)).convert("RGB").resize((side, side)).save(written, "PNG")
    return written.getvalue()


def _sizes(ports: Mapping[str, int]) -> Mapping[str, int]:
    """What the settings of later services are made of, as the first one says it of itself."""
    if not ports:
        return {}
    most = int(httpx.get(f"http://127.0.0.1:{next(iter(ports.values()))}/model").json()["limits"]["max_batch_size"])
    return {"half": max(1, most // 2), "quarter": max(1, most // 4), "more": len(os.sched_getaffinity(0)) + 1}


def _compare(asked: argparse.Namespace, ports: Mapping[str, int], folder: Path) -> None:
    for port in ports.values():
        measured(port, asked.connections, 2, folder)  # warms up
    turns: dict[str, list[Turn]] = {name: [] for name in ports}
    for number in range(asked.rounds):
        for name in list(ports) if number % 2 else list(reversed(ports)):
            turns[name].append(_turn(ports[name], asked, folder))
    first = turns[next(iter(ports))]
    print(f"| {asked.connections} connections | images/s, of the first | least to most | p99, of the first | "
          "pictures in a run | idle |\n|---|---|---|---|---|---|")  # fmt: skip
    for name, each in turns.items():
        rates = [one.images_s / other.images_s for one, other in zip(each, first, strict=True)]
        late = median(one.p99_ms / other.p99_ms for one, other in zip(each, first, strict=True))
        rate = f"{median(rates):.2f}" + (f" ({median(one.images_s for one in each):,.0f})" if each is first else "")
        print(f"| {name} | {rate} | {min(rates):.2f} to {max(rates):.2f} | {late:.2f} | "
              f"{median(one.pictures for one in each):.1f} | {median(one.idle for one in each):.1%} |")  # fmt: skip


def _turn(port: int, asked: argparse.Namespace, folder: Path) -> Turn:
    runs, cpus = _runs(port), _cpu_times()
    told = measured(port, asked.connections, asked.seconds, folder)
    later, spent = _runs(port), [now - then for then, now in _pairs(cpus, _cpu_times())]
    pictures = (later[0] - runs[0]) / max(1.0, later[1] - runs[1])
    idle = sum(spent[1::2]) / sum(spent[0::2])
    return Turn(told["answers"] / told["seconds"], told["p99_ms"], pictures, idle)


def _runs(port: int) -> tuple[float, float]:
    """Pictures run so far, and runs."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = dict(re.findall(r"^mixer_batch_size_(sum|count)(?:\{.*\})? (\S+)$", text, re.MULTILINE))
    return float(found["sum"]), float(found["count"])


def _cpu_times() -> list[tuple[float, float]]:
    """Of each CPU, its time so far and that in which it idled, in ticks (proc_stat(5))."""
    rows = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
    times = [[float(one) for one in row[1:9]] for row in rows if re.fullmatch(r"cpu\d+", row[0])]
    return [(sum(row), row[3]) for row in times]


def _pairs(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [pair for one, other in zip(before, after, strict=True) for pair in zip(one, other, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
