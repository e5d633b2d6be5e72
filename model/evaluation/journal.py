"""The logs of a training run: metrics.jsonl and TensorBoard's event files. Knows nothing of training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.network import checkpoint_folder

METRICS = "metrics.jsonl"
BOARD = "tensorboard"


class Journal:
    """The event files of one run, after `step`; what a killed process wrote about later steps is purged."""

    def __init__(self, out: Path, step: int, *, active: bool = True) -> None:
        self._writer = None
        if active:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 -- half a second that evaluation does not need

            self._writer = SummaryWriter(out / BOARD, purge_step=step + 1)

    def note_step(self, step: int, loss: float, learning_rate: float) -> None:
        """The mean loss of the epoch so far."""
        self._note(step, {"train_loss": loss, "learning_rate": learning_rate})

    def note_epoch(self, step: int, report: Mapping[str, Any]) -> None:
        """Every number of an epoch's report."""
        self._note(step, {f"epoch/{name}": value for name, value in report.items()})
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flush the event files."""
        if self._writer is not None:
            self._writer.close()

    def _note(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    @staticmethod
    def write_rows(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write all of metrics.jsonl atomically."""
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        checkpoint_folder.write_atomically(out / METRICS, lambda path: path.write_text(lines))
