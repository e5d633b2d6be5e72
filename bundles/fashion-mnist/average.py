"""Write the weighted mean of two checkpoints of one network, the second of which was trained on from the first.

    python bundles/fashion-mnist/average.py FIRST SECOND SHARE OUT

SHARE is that of SECOND, from 0 to 1. All else in OUT is as in SECOND.
"""

import argparse
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"


def average(first: Path, second: Path, share: float, out: Path) -> None:
    """The mean of two checkpoint folders. Raises ValueError for weights that are not of one network."""
    weights, others = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    shapes, other_shapes = ({name: one.shape for name, one in each.items()} for each in (weights, others))
    if shapes != other_shapes:
        raise ValueError(f"{first} and {second} have weights of other names or shapes; expected those of one network.")
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(second / "config.json", out)
    shutil.copytree(second / "pictures", out / "pictures", dirs_exist_ok=True)
    with safe_open(second / WEIGHTS, "pt") as file:
        metadata = file.metadata()
    mean = {name: (1 - share) * weights[name] + share * other for name, other in others.items()}
    save_file(mean, out / WEIGHTS, metadata)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("first", "second"):
        parser.add_argument(name, type=Path)
    parser.add_argument("share", type=float)
    parser.add_argument("out", type=Path)
    average(**vars(parser.parse_args()))
