"""Whether a run still gets better. Knows nothing of networks or steps."""

from collections.abc import Mapping, Sequence
from typing import Any


def epochs_without_gain(history: Sequence[Mapping[str, Any]]) -> int:
    """Epochs since the validation loss was last lower, or the accuracy higher, than ever before."""
    best_loss, best_top1, since = float("inf"), -1.0, 0
    for row in history:
        gains = row["val_loss"] < best_loss or row["val_top1"] > best_top1
        since = 0 if gains else since + 1
        best_loss, best_top1 = min(best_loss, row["val_loss"]), max(best_top1, row["val_top1"])
    return since
