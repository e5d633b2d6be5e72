"""Pictures to a classifier, three ways: a head alone, all weights from bundles/clothes, all weights from random ones.

    python -m benchmarks.own_classes PHOTOGRAPHS OUT [--sets NAME ...] [--ways NAME ...] [--epochs N]

PHOTOGRAPHS has train/LABEL/ and val/LABEL/, as the public photographs of clothes have. Three sets are made of them in
OUT: 3 classes of 40; all classes as they are; and 102 classes of 10, each of crops of one photograph (a quarter of its
sides, anywhere), by which it is to be known again, with 4 more to judge by. Each way is one command, `mixer train`;
prints a line for each, with the processor time of the command and the top-1 on val/, which chose its best epoch, too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
_FEW, _EACH = 3, 40
_PHOTOGRAPHS, _LEARNT, _JUDGED, _SIDE = 102, 10, 4, 96
WAYS = {
    "a head alone": ("--init", str(ROOT / "bundles" / "clothes"), "--freeze"),
    "fine-tuning": ("--init", str(ROOT / "bundles" / "clothes" / "checkpoint"), "--recipe", "finetune"),
    "from random weights": ("--recipe", "small"),
}


def few(photographs: Path, out: Path) -> None:
    """The first classes, some pictures of each, and all to judge by."""
    for label in sorted(path.name for path in (photographs / "train").iterdir())[:_FEW]:
        _link((photographs / "train" / label), out / "train" / label, _EACH)
        _link((photographs / "val" / label), out / "val" / label)


def all_of_them(photographs: Path, out: Path) -> None:
    """As they are."""
    out.mkdir(parents=True)
    for split in ("train", "val"):
        (out / split).symlink_to(photographs / split)


def crops(photographs: Path, out: Path) -> None:
    """Of photographs that are large enough, evenly among all."""
    files = sorted((photographs / "train").rglob("*.jpg"))
    rng = Random(0)
    for number, path in enumerate(files[:: len(files) // _PHOTOGRAPHS][:_PHOTOGRAPHS]):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        side = min(picture.size) // 4
        for index in range(_LEARNT + _JUDGED):
            left, top = (rng.randrange(length - side + 1) for length in picture.size)
            crop = picture.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
            folder = out / ("train" if index < _LEARNT else "val") / f"photograph-{number:03}"
            folder.mkdir(parents=True, exist_ok=True)
            crop.save(folder / f"{index}.png")


SETS = {"3 of 40": few, "10 of 300": all_of_them, "102 of 10": crops}


def _link(source: Path, target: Path, most: int | None = None) -> None:
    target.mkdir(parents=True)
    for path in sorted(source.iterdir())[:most]:
        (target / path.name).symlink_to(path)


def trained(pictures: Path, out: Path, way: tuple[str, ...], epochs: int | None) -> tuple[float, float]:
    """Processor seconds of the command (with all of its processes), and seconds by the clock."""
    flags = () if epochs is None or "--freeze" in way else ("--epochs", str(epochs))
    command = [sys.executable, "-m", "cli", "train", str(pictures), "--out", str(out), "--no-bundle", *way, *flags]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with out.with_suffix(".log").open("w") as log:
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=ROOT, env=variables, stdout=log, stderr=log, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - began


def judged(checkpoint: Path, pictures: Path) -> str:
    """The first row of what `mixer evaluate` says: pictures, top-1, its interval, top-5."""
    command = [sys.executable, "-m", "cli", "evaluate", str(checkpoint), str(pictures)]
    told = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = told.stdout.splitlines()
    header = next(number for number, line in enumerate(lines) if "top-1" in line)
    count, top1, interval, top5 = (cell.strip() for cell in lines[header + 2].strip("│").split("│")[:4])
    return f"top-1 {top1} ({interval}), top-5 {top5} of {count}"


def epochs_of(checkpoint: Path) -> int:
    """How many there were; 0 for a head alone."""
    log = checkpoint / "metrics.jsonl"
    return len([json.loads(line) for line in log.read_text().splitlines()]) if log.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--epochs", type=int, help="where all weights are trained; default: as the recipe has it")
    asked = parser.parse_args()
    for name in asked.sets:
        pictures = asked.out / name.replace(" ", "-")
        if not pictures.exists():
            SETS[name](asked.photographs.resolve(), pictures)
        for way in asked.ways:
            checkpoint = asked.out / f"{pictures.name}-{way.replace(' ', '-')}"
            used_s, passed_s = trained(pictures, checkpoint, WAYS[way], asked.epochs)
            words = judged(checkpoint, pictures)
            print(
                f"{name}, {way}: {words}; {epochs_of(checkpoint)} epochs, {used_s:.0f} s of processor time, "
                f"{passed_s:.0f} s by the clock", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
