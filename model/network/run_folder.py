"""Whether a run may write to a folder, and which of its two checkpoints is the better one.

Knows file names and the checkpoints' metrics, and nothing of weights; imports no torch.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.errors import TrainingError

RESUME, BEST, CONFIG = "resume.pt", "best", "config.json"
LESSONS, LESSONS_KEY = "lessons.f16", "lessons.json"
EMBEDDINGS = "embeddings.npz"  # of the pictures that a head on a frozen network was fitted to
_WRITTEN = ("model.safetensors", "pictures", "metrics.jsonl", "curves.png", "tensorboard")
_OURS = frozenset({RESUME, BEST, CONFIG, LESSONS, LESSONS_KEY, EMBEDDINGS, *_WRITTEN})
_MOST_NAMED = 5

Weights = Literal["best", "last"]


@dataclass(frozen=True)
class Judged:
    """A checkpoint of a run: its epochs, and its metrics on the validation pictures."""

    folder: Path
    epoch: int
    top1: float
    num_pictures: int


def expect_run_folder(out: Path, data: Path, *, over_head: bool = False) -> None:
    """Raises TrainingError where `out` holds other things than a run, lies among the pictures or is not writable.

    Known before a picture is read. over_head: a head on a frozen network may be replaced, which is fitted in seconds.
    """
    if out.resolve() == data.resolve() or data.resolve() in out.resolve().parents:
        raise TrainingError(f"--out {out} is within DATA, {data}; expected a folder outside of the pictures.")
    existing = next((path for path in (out, *out.absolute().parents) if path.exists()), Path())
    if not existing.is_dir():
        raise TrainingError(f"{out} cannot be written: {existing} is a file; expected a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise TrainingError(f"{out} cannot be written: {existing} may not be written to by this user.")
    if existing == out and not (out / RESUME).exists():
        if (out / CONFIG).exists() and not (over_head and (out / EMBEDDINGS).exists()):
            raise TrainingError(f"{out} already holds a checkpoint; expected a new folder or a killed run's.")
        _expect_only_ours(out)


def _expect_only_ours(out: Path) -> None:
    others = sorted(path.name for path in out.iterdir() if path.name not in _OURS and not path.name.startswith("."))
    if others:
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        raise TrainingError(
            f"{out} holds {', '.join(others[:_MOST_NAMED])}{more}; expected a new folder, an empty one or a run's."
        )


def best_and_last(folder: Path) -> tuple[Judged, Judged] | None:
    """Both checkpoints of a run that has ended; None where `folder` is anything else."""
    best, last = _judged(folder / BEST), _judged(folder)
    return None if best is None or last is None else (best, last)


def better(folder: Path, weights: Weights = "best") -> Path:
    """The checkpoint to take from `folder`: the best epoch's where it did better than the last, else `folder`."""
    both = best_and_last(folder)
    return both[0].folder if weights == "best" and both is not None and both[0].top1 > both[1].top1 else folder


def _judged(folder: Path) -> Judged | None:
    try:
        content = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        metrics, history = content["spec"]["metrics"], content["training"]["history"]
        return Judged(folder, history[-1]["epoch"], metrics["top1"], metrics["num_pictures"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
