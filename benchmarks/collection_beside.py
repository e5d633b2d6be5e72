"""What keeping pictures costs those who classify: p50 and p99 of /classify with it and without, in turns.

    python -m benchmarks.collection_beside [--bundle BUNDLE] [--rounds N] [--connections C]

Five services with their defaults: two keep nothing (what tells them apart is noise), one keeps every picture, one is on
a disk that is full (a tmpfs of 1 MB; needs root), one on a disk that hangs (this process holds the folder's lock). wrk
sends the pictures of examples/ to one after the other, and every service has to give the answers of the first. Prints a
line a round, the medians of the ratios to the first, and what became of the pictures.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx

from benchmarks.explanations_beside import measured, write_plan
from benchmarks.serving.configurations import Configuration
from benchmarks.serving.processes import adopt_orphans
from benchmarks.serving.server import Probe, serving

ROOT = Path(__file__).resolve().parents[1]
OFF, OFF_TOO = "keeps nothing", "keeps nothing, too"


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """A file system on which next to nothing has room."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def hanging_disk(folder: Path) -> Iterator[Path]:
    """A folder in which nothing can be written."""
    folder.mkdir()
    with (folder / ".usage").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield folder


def answers(port: int, pictures: list[bytes]) -> list[object]:
    """What a service says of each picture; probabilities to four decimals, as the last depend on the batch."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        bodies = [http.post("/classify", content=picture).raise_for_status().json() for picture in pictures]
    return [[(one["label"], round(one["probability"], 4)) for one in body["predictions"]] for body in bodies]


def collected(port: int) -> dict[str, int]:
    """What became of pictures that were to be kept."""
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    found = (line for line in lines if line.startswith("mixer_collected_total{"))
    return {line.split('"')[1]: round(float(line.rsplit(" ", 1)[1])) for line in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "clothes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=4)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is missing; expected Debian's package wrk.", file=sys.stderr)
        return 2
    adopt_orphans()
    pictures = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.jpg"))]
    with tempfile.TemporaryDirectory(prefix="bench-collection-") as made, ExitStack() as stack:
        folder = Path(made)
        folders: dict[str, Path | None] = {OFF: None, OFF_TOO: None, "keeps all": folder / "kept"}
        if os.geteuid() == 0:
            folders["full disk"] = stack.enter_context(full_disk(folder / "full"))
        folders["hanging disk"] = stack.enter_context(hanging_disk(folder / "hanging"))
        write_plan(folder, pictures)
        probe = Probe("/classify", "image/jpeg", pictures[0])
        ports: dict[str, int] = {}
        for number, (name, kept) in enumerate(folders.items()):
            variables = {"MIXER_BUNDLE": str(asked.bundle), "MIXER_PORT": "{port}", "MIXER_LOG_LEVEL": "error"}
            variables["MIXER_PRECISION"] = "int8"
            if kept is not None:
                variables |= {"MIXER_COLLECT_DIR": str(kept), "MIXER_COLLECT_SHARE": "1"}
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
        found = {name: measured(ports[name], asked.connections, asked.seconds, folder) for name in names}
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
        print(f"| {name} | {rate:.2f} | {p50:.2f} | {p99:.2f} | {ends} | {collected(ports[name]) or '-'} |")


def _words(told: dict[str, float]) -> str:
    return f"{told['answers'] / told['seconds']:.0f}, {told['p50_ms']:.1f}, {told['p99_ms']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
