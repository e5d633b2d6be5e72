"""Train the default model's network once for each fold, on the photographs of the others, and judge it by the fold.

    python -m benchmarks.training_folds PHOTOGRAPHS WORK [--others FOLDER] [--only FOLD ...] [--count N] ...
    python -m benchmarks.training_folds --judge

PHOTOGRAPHS has train/LABEL/ and val/LABEL/ under the labels of bundles/clothes, which bundles/clothes/train.sh makes in
its work folder, beside the folder of others. All photographs of both go into three folds, a third of each label's. For
each fold, the first of the two stages of train.sh: a teacher's head, lessons and a pupil, which know nothing of the
fold, and the pupil's exported graphs. What these say of the fold is kept in benchmarks/training_folds/fold-N.npz, so
that folds may be trained at several times, and WORK holds what a killed run goes on with. Prints what holds on the
folds that are there.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cli.evaluation import dataset_for, opened
from model.data.layout import read_labels
from model.evaluation.cross_validation import cross_validated
from model.evaluation.evaluate import (
    LEAST_TO_CALIBRATE,
    all_logits,
    calibration_error_by_chance,
    evaluate_logits,
    fit_temperature,
    probabilities_of,
    top1_interval,
)
from model.evaluation.scores import class_scores, confusion_matrix
from model.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(__file__).parent
PRECISIONS = ("fp32", "int8")
_FOLDS, _PARTS, _REPEATS = 3, 10, 5
_LABELS = ROOT / "bundles" / "clothes" / "labels.txt"
COUNT, LEVEL, COOL = 122_880, 1018, 402  # as train.sh has them
COOL_WEIGHTS = ("--logits-weight", "0.7", "--labels-weight", "0.2", "--maps-weight", "0.7")


def fold_of(names: Sequence[str]) -> dict[str, int]:
    """Which fold each picture of one label is in: as many in each, in an order that says nothing of the pictures."""
    shuffled = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: place % _FOLDS for place, name in enumerate(shuffled)}


def split(photographs: Path, out: Path, fold: int) -> None:
    """A folder whose val/ is the fold and whose train/ is all else, of links to the files."""
    for label in read_labels(_LABELS):
        paths = [path for part in ("train", "val") for path in (photographs / part / label).iterdir()]
        files = {f"{path.parent.parent.name}-{path.name}": path for path in paths}
        for name, found in fold_of(list(files)).items():
            folder = out / ("val" if found == fold else "train") / label
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                os.link(files[name], folder / name)


def train(arguments: argparse.Namespace, fold: int) -> None:
    """Lessons and a pupil of all other folds, and what it says of this one."""
    work: Path = arguments.work
    data, lessons, out = (work / f"{kind}-{fold}" for kind in ("photographs", "lessons", "pupil"))
    split(arguments.photographs, data, fold)
    others = () if arguments.others is None else ("--others", arguments.others)
    _mixer("lessons", data, lessons, "--labels", _LABELS, "--count", arguments.count, "--seed", fold, *others)
    level, cool = arguments.level, arguments.cool
    if not (out / "level").exists():
        _mixer("distil", lessons, data, "--out", out, "--fit", "crop", "--steps", level, "--cool-steps", 0)
        (out / "level").touch()
    steps = ("--steps", level + cool, "--cool-steps", cool)
    _mixer("distil", lessons, data, "--out", out, "--fit", "crop", *steps, *COOL_WEIGHTS)
    bundle = work / f"bundle-{fold}"
    _mixer("export", out, bundle, "--data", data)
    kept: dict[str, Any] = {"lessons": arguments.count, "steps": level + cool}
    for precision in PRECISIONS:
        kept[precision], kept["labels"] = _judged(bundle, precision, data)
    np.savez_compressed(KEPT / f"fold-{fold}.npz", **kept)


def _mixer(*words: object) -> None:
    subprocess.run([str(Path(sys.executable).with_name("mixer")), *map(str, words)], check=True, cwd=ROOT)


def _judged(bundle: Path, precision: str, data: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits [N, K] of the fold's pictures, and their labels [N]."""
    spec, run, _ = opened(bundle, precision)
    images = dataset_for(spec, data, Recipe(), to_calibrate=True).val
    return all_logits(run, images).astype(np.float32), images.labels


def left_out(logits: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.float64]:
    """Logits of a fold at temperatures that nine tenths of it have given, for the tenth."""
    part = np.random.default_rng(seed).permutation(len(labels)) % _PARTS
    scaled = np.empty_like(logits)
    for one in range(_PARTS):
        inside = part != one
        if inside.sum() < LEAST_TO_CALIBRATE:
            raise SystemExit(f"A fold has {len(labels)} pictures; expected more, for a temperature.")
        scaled[~inside] = logits[~inside] / fit_temperature(logits[inside], labels[inside])
    return scaled


def judge() -> None:
    """Print a line for each fold that is there, and what holds on all of them together."""
    paths = sorted(KEPT.glob("fold-*.npz"))
    if not paths:
        raise SystemExit(f"{KEPT} has no fold; expected some that were trained.")
    for precision in PRECISIONS:
        print(precision)
        _judge(paths, precision)


def _judge(paths: Sequence[Path], precision: str) -> None:
    folds: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
    for path in paths:
        with np.load(path) as stored:
            folds.append((stored[precision].astype(np.float64), stored["labels"]))
            made_with = f"{stored['lessons']} lessons, {stored['steps']} steps"
        _print(f"{path.stem} ({made_with})", folds[-1:])
        print(f"  {cross_validated(*folds[-1])}")
    _print(f"{len(paths)} of {_FOLDS} folds", folds)
    truth, names = np.concatenate([labels for _, labels in folds]), read_labels(_LABELS)
    predicted = np.concatenate([logits.argmax(axis=1) for logits, _ in folds])
    for one in class_scores(confusion_matrix(predicted, truth, len(names)), names):
        print(f"  {one.label}: {one.num_pictures} pictures, recall {one.recall:.1%}, precision {one.precision:.1%}")


def _print(what: str, folds: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]]) -> None:
    """What holds on the pictures of these folds together; means over temperatures from several draws of tenths."""
    labels = np.concatenate([truth for _, truth in folds])
    drawn = [np.concatenate([left_out(*fold, seed) for fold in folds]) for seed in range(_REPEATS)]
    found = [evaluate_logits(logits, labels) for logits in drawn]
    chance = [calibration_error_by_chance(probabilities_of(logits, 1.0)) for logits in drawn]
    low, high = top1_interval(found[0].top1, len(labels))
    print(
        f"{what}: {len(labels)} pictures, top-1 {found[0].top1:.1%} ({low:.1%} to {high:.1%}), "
        f"loss {fmean(one.loss for one in found):.4f}, "
        f"calibration error {fmean(one.calibration_error for one in found):.4f} "
        f"(by chance {fmean(one.mean for one in chance):.4f}, 95 % below "
        f"{fmean(one.percentile_95 for one in chance):.4f})"
    )


def main() -> None:
    """Train and judge, or judge alone."""
    parser = argparse.ArgumentParser(prog="benchmarks.training_folds", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("photographs", type=Path, nargs="?", help="folder with train/LABEL/ and val/LABEL/")
    parser.add_argument("work", type=Path, nargs="?", help="folder for lessons and pupils, on the same file system")
    parser.add_argument("--others", type=Path, help="folder of pictures of anything else")
    parser.add_argument("--only", type=int, nargs="+", choices=range(_FOLDS), default=range(_FOLDS), metavar="FOLD",
                        help="of 0, 1 and 2; default: all")  # fmt: skip
    parser.add_argument("--count", type=int, default=COUNT, help="lessons")
    parser.add_argument("--level", type=int, default=LEVEL, help="steps at the full rate")
    parser.add_argument("--cool", type=int, default=COOL, help="steps in which it falls")
    parser.add_argument("--judge", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    if not arguments.judge:
        if arguments.work is None:
            parser.error("PHOTOGRAPHS and WORK are missing; expected both, or --judge.")
        for fold in arguments.only:
            train(arguments, fold)
    judge()


if __name__ == "__main__":
    main()
