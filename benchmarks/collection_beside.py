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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from benchmarks.in_turns import compare, write_plan
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
        compare(asked, pictures, ports, folder, collected)
    return 0


if __name__ == "__main__":
    sys.exit(main())
