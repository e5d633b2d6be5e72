"""The curves of a training run as one image file. Knows nothing of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.network.checkpoint import write_atomically

CURVES = "curves.png"


def write_curves(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draw the epochs of metrics.jsonl, losses beside validation top-1, into `folder`/curves.png.

    Raises: OSError where it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 -- slow to load, needed once a run
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    losses.plot(epochs, [row["train_loss"] for row in rows], marker=".", label="training")
    losses.plot(epochs, [row["val_loss"] for row in rows], marker=".", label="validation")
    losses.set(xlabel="epoch", ylabel="loss", title="Loss")
    losses.legend()
    accuracy.plot(epochs, [row["val_top1"] * 100 for row in rows], marker=".", color="tab:green")
    accuracy.set(xlabel="epoch", ylabel="%", title="Validation top-1")
    accuracy.grid(visible=True, alpha=0.3)
    FigureCanvasAgg(figure)
    write_atomically(folder / CURVES, lambda path: figure.savefig(path, format="png", dpi=110))
